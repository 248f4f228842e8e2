//! A file's footer, looked through before the crate believes it: it recurses as deep as a schema is nested, and makes
//! room for as many children as an element declares.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// How deep a schema may be nested.
const MAX_DEPTH: usize = 64;
/// The last bytes of a file: the footer's length, and `PAR1`.
const TAIL: u64 = 8;

/// What is wrong with a file's footer, if anything.
pub(super) fn check(mut file: &File) -> io::Result<Result<(), String>> {
    let len = file.metadata()?.len();
    let Some(before) = len.checked_sub(TAIL) else {
        return Ok(Err(format!("it has {len} bytes")));
    };
    let mut tail = [0; TAIL as usize];
    file.seek(SeekFrom::Start(before))?;
    file.read_exact(&mut tail)?;
    if &tail[4..] == b"PARE" {
        return Ok(Err("it is encrypted".to_owned()));
    }
    if &tail[4..] != b"PAR1" {
        return Ok(Err("it does not end with PAR1".to_owned()));
    }
    let footer_len = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]).into();
    let Some(start) = before.checked_sub(footer_len) else {
        return Ok(Err(format!("a footer of {footer_len} bytes in a file of {len}")));
    };
    file.seek(SeekFrom::Start(start))?;
    let mut footer = Vec::new();
    file.take(footer_len).read_to_end(&mut footer)?;
    let damaged = || "its footer is damaged".to_owned();
    Ok(Thrift(&footer).schema().ok_or_else(damaged).and_then(|children| check_tree(&children)))
}

/// Holds the numbers of children of a tree's elements, in depth-first order, to one another.
fn check_tree(children: &[usize]) -> Result<(), String> {
    // Of each element above, how many children are still to come.
    let mut open: Vec<usize> = Vec::new();
    for (element, &count) in children.iter().enumerate() {
        if count >= children.len() - element {
            return Err(format!("an element of its schema declares {count} children"));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        open.push(count);
        if open.len() > MAX_DEPTH {
            return Err(format!("its schema is nested more than {MAX_DEPTH} deep"));
        }
    }
    Ok(())
}

/// What is left of bytes in Thrift's compact protocol. Everything is `None` where they are damaged.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    /// How many children each element of a schema has: field 5 of the elements of the list that is field 2.
    fn schema(&mut self) -> Option<Vec<usize>> {
        let mut id = 0;
        loop {
            let kind = self.field(&mut id)?;
            match (id, kind) {
                (_, 0) => return None,
                (2, 9) => break,
                _ => self.skip(kind, MAX_DEPTH)?,
            }
        }
        let (count, kind) = self.list()?;
        if kind != 12 {
            return None;
        }
        let mut children = Vec::new();
        for _ in 0..count {
            let (mut id, mut count) = (0, 0);
            loop {
                match (self.field(&mut id)?, id) {
                    (0, _) => break,
                    (5, 5) => count = usize::try_from(self.signed()?).ok()?,
                    (kind, _) => self.skip(kind, MAX_DEPTH)?,
                }
            }
            children.push(count);
        }
        Some(children)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn bytes(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// The kind of the next field, 0 where a struct ends; `id` becomes its number.
    fn field(&mut self, id: &mut i64) -> Option<u8> {
        let head = self.byte()?;
        match (head >> 4, head & 15) {
            (_, 0) => return Some(0),
            (0, _) => *id = self.signed()?,
            (step, _) => *id = id.checked_add(step.into())?,
        }
        Some(head & 15)
    }

    /// The length of a list, and the kind of its elements.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.number()?,
            count => count.into(),
        };
        // An element takes a byte at least.
        (count <= self.0.len() as u64).then_some((count, head & 15))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            1 | 2 => Some(()),
            3 => self.bytes(1),
            4..=6 => self.number().map(|_| ()),
            7 => self.bytes(8),
            8 => {
                let len = self.number()?;
                self.bytes(len)
            }
            9 | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth))
            }
            11 => {
                let count = self.number()?;
                if count == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 15, depth)
                })
            }
            12 => {
                let mut id = 0;
                loop {
                    match self.field(&mut id)? {
                        0 => return Some(()),
                        kind => self.skip(kind, depth)?,
                    }
                }
            }
            _ => None,
        }
    }

    /// As [`Self::skip`]; a truth value in a list takes a byte.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            1 | 2 => self.bytes(1),
            kind => self.skip(kind, depth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bytes: &[u8]) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, bytes).unwrap();
        check(&File::open(path).unwrap()).unwrap()
    }

    /// A file whose footer's schema has elements with these numbers of children.
    fn file(children: &[u32]) -> Vec<u8> {
        // Version 1; then a list of structs.
        let mut footer = vec![0x15, 2, 0x19];
        let number = |mut number: u32, out: &mut Vec<u8>| {
            while number >= 128 {
                out.push(number as u8 | 128);
                number >>= 7;
            }
            out.push(number as u8);
        };
        footer.push(0xfc);
        number(children.len() as u32, &mut footer);
        for &count in children {
            // A name, then the number of children.
            footer.extend([0x48, 1, b'a', 0x15]);
            number(count << 1, &mut footer);
            footer.push(0);
        }
        footer.push(0);
        let len = (footer.len() as u32).to_le_bytes();
        [b"PAR1", &*footer, &len, b"PAR1"].concat()
    }

    #[test]
    fn a_schema_is_a_tree_of_some_depth() {
        checked(&file(&[2, 1, 0, 0])).unwrap();
        let chain = |len: usize| [vec![1; len - 1], vec![0]].concat();
        checked(&file(&chain(MAX_DEPTH))).unwrap();
        for (bytes, problem) in [
            (file(&chain(MAX_DEPTH + 1)), "its schema is nested more than 64 deep"),
            (file(&chain(100_000)), "its schema is nested more than 64 deep"),
            (file(&[1 << 30, 0]), "an element of its schema declares 1073741824 children"),
            (b"PAR1".to_vec(), "it has 4 bytes"),
            (b"PAR1PAR1PAR2".to_vec(), "it does not end with PAR1"),
            (b"PAR1\xff\xff\xff\xffPAR1".to_vec(), "a footer of 4294967295 bytes in a file of 12"),
            (b"PAR1\x15\x02\x19\xfc\x02\0\0\0PAR1".to_vec(), "its footer is damaged"),
            (b"PARE\0\0\0\0PARE".to_vec(), "it is encrypted"),
        ] {
            assert_eq!(checked(&bytes).unwrap_err(), problem);
        }
    }
}
