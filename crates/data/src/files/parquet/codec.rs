//! How pages are unpacked, never into more bytes than are allowed.

use std::io::Read;

use ::parquet::basic::Compression;
use flate2::bufread::MultiGzDecoder;
use lz4_flex::block::{DecompressError, decompress_into};
use ruzstd::decoding::StreamingDecoder;

/// Snappy's longest copy, 64 bytes, is told by 3 bytes or more.
const MAX_SNAPPY_RATIO: usize = 22;
/// An LZ4 match grows by at most 255 bytes a byte.
const MAX_LZ4_RATIO: usize = 255;
/// The largest window of zstd that its own program reads unasked.
const MAX_ZSTD_WINDOW: u64 = 128 << 20;

/// What `packed` unpacks to, if it is no more than `most` bytes.
pub(super) fn unpack(codec: Compression, packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    match codec {
        Compression::UNCOMPRESSED => Ok(packed.to_vec()),
        Compression::SNAPPY => snappy(packed, most),
        Compression::GZIP(_) => read(MultiGzDecoder::new(packed), most),
        Compression::BROTLI(_) => read(brotli_decompressor::Decompressor::new(packed, 4096), most),
        Compression::ZSTD(_) => zstd(packed, most),
        Compression::LZ4_RAW => lz4(packed, most),
        Compression::LZ4 => hadoop(packed, most),
        Compression::LZO => {
            Err("it is compressed with LZO, which is not read: write it with zstd or snappy"
                .to_owned())
        }
    }
}

fn beyond(most: usize) -> String {
    format!("a page unpacks to more than the {most} bytes that its column may have")
}

fn read(reader: impl Read, most: usize) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let read = reader.take((most as u64).saturating_add(1)).read_to_end(&mut all);
    read.map_err(|error| format!("a page cannot be unpacked: {error}"))?;
    if all.len() > most { Err(beyond(most)) } else { Ok(all) }
}

fn snappy(packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let damaged = |error: snap::Error| format!("a page cannot be unpacked: {error}");
    let len = snap::raw::decompress_len(packed).map_err(damaged)?;
    if len > most.min(packed.len().saturating_mul(MAX_SNAPPY_RATIO)) {
        return Err(beyond(most));
    }
    snap::raw::Decoder::new().decompress_vec(packed).map_err(damaged)
}

fn zstd(packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    // A frame that is one segment has no window of its own, but the size of its content; else a byte tells it.
    if let [_, _, _, _, descriptor, window, ..] = packed
        && descriptor & 0x20 == 0
    {
        let base = 1_u64 << (10 + (window >> 3));
        if base + base / 8 * u64::from(window & 7) > MAX_ZSTD_WINDOW {
            return Err("a page asks for a window of more than 128 MiB".to_owned());
        }
    }
    let decoder = StreamingDecoder::new(packed)
        .map_err(|error| format!("a page cannot be unpacked: {error}"))?;
    if decoder.decoder.content_size() > most as u64 {
        return Err(beyond(most));
    }
    read(decoder, most)
}

/// A block of LZ4, which does not tell its size.
fn lz4(packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let most = most.min(packed.len().saturating_mul(MAX_LZ4_RATIO));
    let mut len = packed.len().saturating_mul(4).max(1024).min(most);
    loop {
        let mut all = vec![0; len];
        match decompress_into(packed, &mut all) {
            Ok(written) => {
                all.truncate(written);
                return Ok(all);
            }
            Err(DecompressError::OutputTooSmall { .. }) if len < most => {
                len = len.saturating_mul(4).min(most);
            }
            Err(DecompressError::OutputTooSmall { .. }) => return Err(beyond(most)),
            Err(error) => return Err(format!("a page cannot be unpacked: {error}")),
        }
    }
}

/// LZ4 as Hadoop frames it, blocks behind both their sizes; or, of some writers, a block alone.
fn hadoop(packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let alone = || {
        lz4(packed, most)
            .map_err(|error| if frame_is_beyond(packed, most) { beyond(most) } else { error })
    };
    blocks(packed, most).map_or_else(alone, Ok)
}

/// Whether the first of Hadoop's blocks is said to unpack to more than `most` bytes.
fn frame_is_beyond(packed: &[u8], most: usize) -> bool {
    packed.split_first_chunk::<8>().is_some_and(|(sizes, rest)| {
        let [len, packed_len] = [0, 4].map(|at| {
            u32::from_be_bytes([sizes[at], sizes[at + 1], sizes[at + 2], sizes[at + 3]]) as usize
        });
        len > most && packed_len <= rest.len()
    })
}

fn blocks(mut packed: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while !packed.is_empty() {
        let (sizes, rest) = packed.split_first_chunk::<8>()?;
        let (len, packed_len) = sizes.split_at(4);
        let size = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?) as usize);
        let (block, rest) = rest.split_at_checked(size(packed_len)?)?;
        let unpacked = lz4(block, most.checked_sub(all.len())?).ok()?;
        if unpacked.len() != size(len)? {
            return None;
        }
        all.extend(unpacked);
        packed = rest;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;

    use super::*;

    /// A frame of zstd with this byte for its window: so many blocks of 128 KiB that are one byte again and again.
    fn zstd_bomb(window: u8, blocks: u32) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
        for block in 1..=blocks {
            let head = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
            frame.extend(&head.to_le_bytes()[..3]);
            frame.push(b'a');
        }
        frame
    }

    /// A block of LZ4: a byte, itself again `15 + 4 + 255 * more` times, and five others.
    fn lz4_bomb(more: usize) -> Vec<u8> {
        [&[0x1f, b'a', 1, 0][..], &vec![255; more], &[0, 0x50], b"bcdef"].concat()
    }

    #[test]
    fn nothing_unpacks_beyond_its_bound() {
        let most = 1 << 20;
        let mut gzip = GzEncoder::new(Vec::new(), Level::best());
        gzip.write_all(&vec![b'a'; 8 << 20]).unwrap();
        let gzip = gzip.finish().unwrap();
        let snappy = snap::raw::Encoder::new().compress_vec(&vec![b'a'; 8 << 20]).unwrap();
        let lz4 = lz4_bomb(1 << 15);
        let sizes = [8_355_865_u32, lz4.len() as u32].map(u32::to_be_bytes).concat();
        for (codec, packed) in [
            (Compression::GZIP(Default::default()), gzip),
            (Compression::SNAPPY, snappy),
            (Compression::ZSTD(Default::default()), zstd_bomb(0x38, 64)),
            (Compression::LZ4_RAW, lz4.clone()),
            (Compression::LZ4, [sizes, lz4].concat()),
        ] {
            let len = unpack(codec, &packed, 16 << 20).unwrap().len();
            println!("{codec:?}: {} bytes unpack to {len}", packed.len());
            assert!(len > 8_000_000 && packed.len() * 8 < len);
            let error = unpack(codec, &packed, most).unwrap_err();
            assert!(error.contains("more than the 1048576 bytes"), "{codec:?}: {error}");
        }
        let error = unpack(Compression::ZSTD(Default::default()), &zstd_bomb(0xff, 1), most);
        assert!(error.unwrap_err().contains("a window of more than 128 MiB"));
        let mut long = 3_000_000_000_u32.to_le_bytes().to_vec();
        long.splice(.., [0x80, 0xbc, 0xc1, 0x96, 0x0b, 0, b'a']);
        assert!(unpack(Compression::SNAPPY, &long, usize::MAX).is_err());
        assert!(
            unpack(Compression::LZO, b"", most).unwrap_err().contains("LZO, which is not read")
        );
    }

    #[test]
    fn damaged_pages_are_refused() {
        for codec in [
            Compression::GZIP(Default::default()),
            Compression::SNAPPY,
            Compression::ZSTD(Default::default()),
            Compression::BROTLI(Default::default()),
            Compression::LZ4_RAW,
            Compression::LZ4,
        ] {
            for packed in [&b""[..], b"\x28", &[0xff; 40], &zstd_bomb(0x38, 2)[..9]] {
                let unpacked = crate::guard::catch(|| unpack(codec, packed, 1 << 20));
                assert!(
                    !unpacked.clone().is_ok_and(|result| result.is_ok_and(|all| !all.is_empty())),
                    "{codec:?} {packed:?}"
                );
            }
        }
    }
}
