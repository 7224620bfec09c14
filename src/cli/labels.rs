//! Labels of commits, as people keep them: a CSV file with the columns `hash` and `label`.

use std::collections::HashMap;
use std::path::Path;

use gitops_agent::capture::{CommitId, Repo};

use super::failure::{Failure, USAGE};

/// One line of the file.
pub(super) struct Label {
    pub(super) line: u64,
    pub(super) hash: String,
    defect: bool,
}

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<Vec<Label>, Failure> {
    let wrong = |what: String| Failure::new(USAGE, format!("{}: {what}", path.display()));
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let header = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
    let column = |name: &str| {
        header.iter().position(|field| field.eq_ignore_ascii_case(name)).ok_or_else(|| {
            wrong(format!(
                "its first line has no column `{name}`; it says {:?}",
                header.iter().collect::<Vec<_>>()
            ))
            .hint("the first line must be `hash,label`")
        })
    };
    let (hash, label) = (column("hash")?, column("label")?);
    let mut labels = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| wrong(error.to_string()))?;
        let line = row.position().map_or(0, csv::Position::line);
        let id = row.get(hash).unwrap_or_default();
        if id.len() < 4 || id.len() > 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong(format!("line {line}: {id:?} is no commit id"))
                .hint("a hash has 4 to 64 hexadecimal digits"));
        }
        let text = row.get(label).unwrap_or_default();
        let defect = match text.to_ascii_lowercase().as_str() {
            "1" | "1.0" | "true" | "yes" | "buggy" | "defect" => true,
            "0" | "0.0" | "false" | "no" | "clean" => false,
            _ => {
                return Err(wrong(format!("line {line}: {text:?} is no label"))
                    .hint("write 1 for a commit that brought a defect in and 0 for one that did not"));
            }
        };
        labels.push(Label { line, hash: id.to_ascii_lowercase(), defect });
    }
    if labels.is_empty() {
        return Err(
            wrong("it has no labels".to_owned()).hint("write one line for each commit after the header")
        );
    }
    Ok(labels)
}

/// The labelled commits that are here, and the lines whose commits are not.
pub(super) fn resolve<'a>(
    repo: &Repo,
    labels: &'a [Label],
    path: &Path,
) -> Result<(HashMap<CommitId, bool>, Vec<&'a Label>), Failure> {
    let (mut known, mut unknown) = (HashMap::new(), Vec::new());
    for label in labels {
        let full = CommitId::from_hex(&label.hash);
        let id = match full {
            Some(id) => repo.has(&id).then_some(id),
            None => repo.resolve_one(&label.hash).ok(),
        };
        let Some(id) = id else {
            unknown.push(label);
            continue;
        };
        if known.insert(id, label.defect).is_some_and(|before| before != label.defect) {
            return Err(Failure::new(
                USAGE,
                format!("{}: line {}: commit {id} has two different labels", path.display(), label.line),
            )
            .hint("remove one of the two lines"));
        }
    }
    Ok((known, unknown))
}
