//! Each test that `SECURITY.md` and `docs/reliability.md` name is there, and each threat names one.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(sources(&entry.path()));
        } else if entry.path().extension().is_some_and(|end| end == "rs") {
            found.push(entry.path());
        }
    }
    found
}

/// The names of test functions: those with `test` in an attribute up to four lines above.
fn tests(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for path in ["src", "tests"].iter().flat_map(|folder| sources(&root.join(folder))) {
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let Some(name) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) else {
                continue;
            };
            let above = &lines[number.saturating_sub(4)..number];
            if above.iter().any(|line| line.starts_with("#[") && line.contains("test")) {
                names.push(name.split('(').next().unwrap().to_owned());
            }
        }
    }
    names
}

#[test]
fn the_tests_that_the_documents_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let known = tests(root);
    assert!(known.len() > 200, "{}", known.len());
    for (document, least) in [("SECURITY.md", 18), ("docs/reliability.md", 12)] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let rows: Vec<&str> =
            text.lines().filter(|line| line.starts_with("| ") && line.contains("_")).collect();
        let mut checked = 0;
        for row in rows {
            let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
            let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty(), "{document}: no test: {row}");
            for name in named {
                assert!(known.iter().any(|test| test == name), "{document} names {name}, which is no test");
            }
            checked += 1;
        }
        assert!(checked >= least, "{document}: {checked} rows");
    }
}
