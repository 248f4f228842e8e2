//! Tests of files of records.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The columns `a` and `b` of a file of this name, row by row.
fn read(name: &str, bytes: &[u8]) -> Result<Vec<String>, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let wanted = Wanted { columns: &["a", "b"], optional: 0, class_names: true, nested: false };
    let mut rows = Vec::new();
    let format = Format::of(&path).unwrap();
    File::new(&path).rows(format, wanted, &mut |place, cells| {
        rows.push(format!("{place}: {}, {}", cells[0], cells[1]));
        Ok(())
    })?;
    Ok(rows)
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], problem: &str) {
    let message = read(name, bytes).unwrap_err().to_string();
    assert!(message.contains(name) && message.contains(problem), "{message}");
}

#[test]
fn names_tell_the_format() {
    let of = |name: &str| Format::of(Path::new(name));
    for (name, format) in [
        ("x/a.csv", Format::Csv),
        ("a.CSV", Format::Csv),
        ("a.Tsv.GZ", Format::Tsv),
        ("a.json", Format::Json),
        ("a.JSONL", Format::JsonLines),
        ("a.ndjson.gz", Format::JsonLines),
        ("a.b.txt.gz", Format::Text),
        ("a.PARQUET", Format::Parquet),
    ] {
        assert_eq!(of(name), Some(format), "{name}");
    }
    for name in ["", "csv", "a.gz", "a.parquet.gz", "a.csv.zip", "a.xlsx"] {
        assert_eq!(of(name), None, "{name}");
    }
}

#[test]
fn every_format_gives_the_same_cells() {
    let csv = "b,a\r\n2,\"x, y\"\r\n3,é\r\n";
    let lines = "{\"b\": 2, \"a\": \"x, y\"}\n\n{\"a\": \"é\", \"b\": 3}";
    let array = " [{\"b\": 2, \"a\": \"x, y\"}, {\"a\": \"é\", \"b\": 3}]\n";
    let mark = "\u{feff}";
    for (name, content, rows) in [
        ("a.csv", csv.to_owned(), ["line 2: \"x, y\", \"2\"", "line 3: \"é\", \"3\""]),
        ("a.csv", format!("{mark}{csv}"), ["line 2: \"x, y\", \"2\"", "line 3: \"é\", \"3\""]),
        (
            "a.TSV",
            "a\tb\nx, y\t2\né\t3\n".to_owned(),
            ["line 2: \"x, y\", \"2\"", "line 3: \"é\", \"3\""],
        ),
        ("a.jsonl", format!("{mark}{lines}"), ["line 1: \"x, y\", 2", "line 3: \"é\", 3"]),
        ("a.ndjson", lines.to_owned(), ["line 1: \"x, y\", 2", "line 3: \"é\", 3"]),
        ("a.json", array.to_owned(), ["row 1: \"x, y\", 2", "row 2: \"é\", 3"]),
        ("a.JSON", format!("{mark}{lines}"), ["line 1: \"x, y\", 2", "line 3: \"é\", 3"]),
    ] {
        assert_eq!(read(name, content.as_bytes()).unwrap(), rows, "{name}");
        assert_eq!(read(name, &gzip(content.as_bytes())).unwrap(), rows, "{name}, zipped");
        assert_eq!(
            read(&format!("{name}.gz"), &gzip(content.as_bytes())).unwrap(),
            rows,
            "{name}.gz"
        );
    }
    assert_eq!(
        read("a.csv", b"a,b\r\n\r\n\"x\r\ny\",2\r\n\r\nz,3").unwrap()[1],
        "line 6: \"z\", \"3\""
    );
    // Two members of a gzip file are one text.
    let parts = [gzip(b"a,b\nx,"), gzip(b"2\n")].concat();
    assert_eq!(read("a.csv.gz", &parts).unwrap(), ["line 2: \"x\", \"2\""]);
}

#[test]
fn json_cells_have_types() {
    let content = r#"[{"a": null, "b": true}, {"a": -1, "b": 18446744073709551615}, {"a": 1.0, "b": [1, {}]}]"#;
    assert_eq!(
        read("a.json", content.as_bytes()).unwrap(),
        ["row 1: nothing, true", "row 2: -1, 18446744073709551615", "row 3: 1, [1,{}]"]
    );
}

#[test]
fn what_is_wrong_is_named() {
    let utf16: Vec<u8> = "a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes, problem) in [
        ("a.csv", [&b"\xff\xfe"[..], &utf16].concat(), "it is UTF-16, and texts are read as UTF-8"),
        ("a.jsonl", utf16.clone(), "it is UTF-16"),
        ("a.json", utf16.iter().rev().copied().collect(), "it is UTF-16"),
        ("a.csv", b"a,b\n1,2\n\xe9,3\n".to_vec(), "line 3: this is no UTF-8 text"),
        ("a.csv", b"a,c\n1,2\n".to_vec(), "there is no column `b`; it has `a`, `c`"),
        ("a.csv", b"a,b\n1\n".to_vec(), "it cannot be read"),
        (
            "a.jsonl",
            b"{\"a\": 1, \"b\": 2}\n{\"a\": 1}\n".to_vec(),
            "line 2: there is no column `b`; it has `a`",
        ),
        ("a.jsonl", b"{\"a\": 1,\n".to_vec(), "line 1 is no JSON object"),
        (
            "a.json",
            b"[{\"a\": 1, \"b\": 2}, {\"a\": 1}]".to_vec(),
            "row 2: there is no column `b`; it has `a`",
        ),
        (
            "a.json",
            b"[{\"a\": 1, \"b\": 2}, 3]".to_vec(),
            "it is no JSON array of objects with named columns",
        ),
        ("a.json", b"[{\"a\": 1, \"b\": 2}]]".to_vec(), "trailing characters at line 1 column 19"),
        ("a.json", b"[{\"a\": 1, \"b\": 2}".to_vec(), "EOF while parsing"),
        ("a.json", b"{\"data\": []}".to_vec(), "line 1: there is no column `a`; it has `data`"),
        (
            "a.json",
            [b"[{\"a\":".to_vec(), vec![b'['; 100_000]].concat(),
            "recursion limit exceeded",
        ),
    ] {
        refused(name, &bytes, problem);
    }
    let whole = gzip(b"a,b\n1,2\n");
    refused("a.csv.gz", &whole[..whole.len() - 3], "its gzip stream is cut off or damaged");
    let wide = (0..30).map(|column| format!("column{column}")).collect::<Vec<_>>().join(",");
    refused("a.csv", wide.as_bytes(), "`column19` and 10 more");
}

#[test]
fn what_is_too_much_is_refused() {
    let path = Path::new("a.csv.gz");
    let bomb = gzip(&vec![b'a'; 10 << 20]);
    println!("{} bytes unpack to {}", bomb.len(), 10 << 20);
    let message = File::new(path).unzipped(&bomb, 1 << 20).unwrap_err().to_string();
    assert!(message.starts_with("a.csv.gz: it unpacks to more than 1048576 bytes"), "{message}");
    assert_eq!(File::new(path).unzipped(&bomb, 10 << 20).unwrap().len(), 10 << 20);
    let long = "a".repeat(MAX_TEXT + 1);
    refused("a.csv", format!("a,b\n1,\"{long}\"\n").as_bytes(), "line 2 is 67108865 bytes long");
    refused("a.jsonl", format!("{{\"a\": \"{long}\"}}").as_bytes(), "at most 64 MiB are read");
    let lines = format!("x\n{long}");
    let read = File::new(path).lines(&lines).collect::<Result<Vec<_>, _>>();
    assert!(read.unwrap_err().to_string().contains("line 2 is 67108865 bytes long"));
}
