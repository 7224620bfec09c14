//! A pack: one folder of `*.toml`, read strictly. Whatever is wrong is an error that names file, line,
//! rule and next step, never a warning.
//!
//! Compiled into `build.rs` as well. Regular expressions are tried where the engine is (`matcher`), not
//! here, so that the build script does not need a second copy of that library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::rule::Rule;
use super::strict::check_rule;
use crate::hex::hex;

/// The file that makes a folder a pack.
const HEAD: &str = "pack.toml";
/// The format that this version reads.
const FORMAT: u32 = 1;
/// One file, in bytes. The largest built-in one has a tenth of it.
const FILE_LIMIT: u64 = 512 * 1024;
/// Files of one pack.
const FILES_LIMIT: usize = 64;
/// Rules of one pack.
const RULES_LIMIT: usize = 2000;
/// One keyword, glob or regular expression, in bytes.
pub(super) const PATTERN_LIMIT: usize = 2000;
/// The validators of the format that this version has.
pub(super) const VALIDATORS: &[&str] = &[
    "luhn",
    "npi",
    "dea",
    "ssn",
    "mbi",
    "vin",
    "icd10",
    "dob",
    "email_real",
    "nanp_real",
    "ip_public",
    "entropy",
    "void_allowance",
];

/// A pack that cannot be used. The text names file, line, rule and next step.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The folder or a file of it cannot be read.
    #[error("{}: {source}; check that the rules folder exists and can be read", path.display())]
    Read {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content is not a valid pack.
    #[error("{file}{}{}: {problem}; {next}", line.map(|line| format!(":{line}")).unwrap_or_default(), rule.as_ref().map(|rule| format!(": rule {rule}")).unwrap_or_default())]
    Invalid {
        /// The file, as pack and file name.
        file: String,
        /// One-based line, where it is known.
        line: Option<usize>,
        /// The rule's id, where it is in one.
        rule: Option<String>,
        /// What is wrong.
        problem: String,
        /// What to do.
        next: String,
    },
}

/// A pack's name and version, as records carry it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackId {
    /// The pack's id.
    pub id: String,
    /// Its version (semver).
    pub version: String,
}

/// What a rule may cite.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Citation {
    /// The name by which rules cite it.
    pub id: String,
    /// What it says, in a few words.
    pub title: String,
    /// Where it can be read.
    #[serde(default)]
    pub url: Option<String>,
    /// How binding it is.
    #[serde(default)]
    pub kind: Option<CitationKind>,
}

/// How binding a citation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CitationKind {
    /// Must be done.
    Required,
    /// Must be done, or its absence reasoned.
    Addressable,
    /// Not yet law.
    Proposed,
}

/// A pack as loaded.
#[derive(Clone, Debug)]
pub struct Pack {
    /// Name and version.
    pub id: PackId,
    /// The day to which the citations were checked.
    pub as_of: String,
    /// Packs whose citations its rules may use.
    pub extends: Vec<String>,
    /// Rules of other packs that it switches off.
    pub disable: Vec<String>,
    /// SHA-256, lower-case hex, over the files' names and text with line ends normalised.
    pub digest: String,
    /// Its citations.
    pub citations: Vec<Citation>,
    /// Its rules, in the order of files and lines.
    pub rules: Vec<Rule>,
    /// File and one-based line of each of the rules.
    pub places: Vec<(String, usize)>,
}

/// What loading a further pack, and the record, need to know of one: the build embeds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Known {
    /// Name and version.
    pub id: PackId,
    /// The pack's digest.
    pub digest: String,
    /// Ids of its citations.
    pub citations: Vec<String>,
    /// Ids of its rules.
    pub rules: Vec<String>,
}

impl Pack {
    /// The part that outlives loading.
    #[must_use]
    pub fn known(&self) -> Known {
        Known {
            id: self.id.clone(),
            digest: self.digest.clone(),
            citations: self.citations.iter().map(|citation| citation.id.clone()).collect(),
            rules: self.rules.iter().map(|rule| rule.id.clone()).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSource {
    pack: Option<HeadSource>,
    #[serde(default)]
    citation: Vec<Spanned<Citation>>,
    #[serde(default)]
    rule: Vec<Spanned<Rule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadSource {
    id: String,
    version: String,
    format: u32,
    min_tool: String,
    as_of: String,
    #[serde(rename = "licence")]
    _licence: String,
    #[serde(default)]
    extends: Vec<String>,
    #[serde(default)]
    disable: Vec<String>,
}

/// Where an error is.
pub(super) struct Place<'a> {
    file: &'a str,
    text: &'a str,
    offset: Option<usize>,
    rule: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// A place in a file: where the rule or value begins, as a number of bytes.
    #[allow(dead_code, reason = "the build script reads packs only")]
    pub(super) fn new(file: &'a str, text: &'a str, offset: Option<usize>, rule: Option<&'a str>) -> Self {
        Self { file, text, offset, rule }
    }

    /// One-based line, where it is known.
    pub(super) fn line(&self) -> Option<usize> {
        self.offset.map(|at| {
            let at = at.min(self.text.len());
            self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
        })
    }

    /// An error here.
    pub(super) fn error(&self, problem: impl Into<String>, next: impl Into<String>) -> RuleError {
        RuleError::Invalid {
            file: self.file.to_owned(),
            line: self.line(),
            rule: self.rule.map(str::to_owned),
            problem: problem.into(),
            next: next.into(),
        }
    }
}

/// The pack folders of `dir`: itself where it has a `pack.toml`, else those of its folders that hold `*.toml`, by name.
///
/// # Errors
/// The folder cannot be read, or holds no pack, or one of its folders holds rules and no `pack.toml`: a pack that
/// is left out in silence would be worse than one that is broken.
pub(crate) fn pack_folders(dir: &Path) -> Result<Vec<PathBuf>, RuleError> {
    let refuse = |folder: &Path, problem: &str, next: &str| {
        Err(Place { file: &folder.display().to_string(), text: "", offset: None, rule: None }
            .error(problem, next))
    };
    // Whatever has the name counts, a pipe or a dead link too: reading it says what is wrong.
    if fs::symlink_metadata(dir.join(HEAD)).is_ok() {
        return Ok(vec![dir.to_owned()]);
    }
    let mut found = Vec::new();
    for path in entries(dir)? {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || !path.is_dir() || !has_toml(&path)? {
            continue;
        }
        if fs::symlink_metadata(path.join(HEAD)).is_err() {
            return refuse(
                &path,
                "rules without a pack.toml",
                "add pack.toml with the [pack] table, or move the folder away",
            );
        }
        found.push(path);
    }
    found.sort();
    if found.is_empty() {
        return refuse(
            dir,
            "no pack.toml here nor in a folder below",
            "put each pack into a folder with a pack.toml",
        );
    }
    Ok(found)
}

/// Whether a folder holds a file of rules, or something that has the name of one.
fn has_toml(dir: &Path) -> Result<bool, RuleError> {
    Ok(entries(dir)?.iter().any(|path| path.extension().is_some_and(|end| end == "toml")))
}

/// The files of a pack as (name, text), `pack.toml` first, then by name.
///
/// # Errors
/// A file cannot be read, is too large or not UTF-8, or there are too many.
pub(crate) fn pack_files(folder: &Path) -> Result<Vec<(String, String)>, RuleError> {
    let pack = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut paths: Vec<PathBuf> = entries(folder)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    paths.sort_by_key(|path| (!path.ends_with(HEAD), path.clone()));
    let mut files = Vec::new();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = format!("{pack}/{name}");
        let place = Place { file: &name, text: "", offset: None, rule: None };
        if files.len() == FILES_LIMIT {
            return Err(place.error(format!("more than {FILES_LIMIT} files"), "split the pack"));
        }
        let read = |source| RuleError::Read { path: path.clone(), source };
        let found = fs::metadata(&path).map_err(read)?;
        if !found.is_file() {
            // A pipe or a device would never end.
            return Err(place.error("is no regular file".to_owned(), "remove it from the folder"));
        }
        if found.len() > FILE_LIMIT {
            return Err(place.error(format!("larger than {FILE_LIMIT} bytes"), "split the file"));
        }
        let bytes = fs::read(&path).map_err(read)?;
        let text =
            String::from_utf8(bytes).map_err(|_| place.error("not UTF-8", "save the file as UTF-8"))?;
        files.push((name, text.replace("\r\n", "\n")));
    }
    Ok(files)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, RuleError> {
    let read = |source| RuleError::Read { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)? {
        paths.push(entry.map_err(read)?.path());
    }
    Ok(paths)
}

/// Tries what only the engine can: regular expressions and globs. What is wrong comes back as text.
pub(crate) type TryPatterns<'a> = &'a dyn Fn(&Rule) -> Result<(), String>;

/// Reads a pack from its files, which [`pack_files`] gave. `known` are the packs loaded before.
///
/// # Errors
/// Anything that is not exactly the format.
pub(crate) fn parse_pack(
    files: &[(String, String)],
    known: &[Known],
    patterns: TryPatterns<'_>,
) -> Result<Pack, RuleError> {
    let mut parsed = Vec::new();
    for (name, text) in files {
        let source: FileSource = toml::from_str(text).map_err(|error| {
            let place = Place { file: name, text, offset: error.span().map(|span| span.start), rule: None };
            place.error(
                error.message().replace('\n', " "),
                "correct it by docs/rules.md, which lists all keys",
            )
        })?;
        parsed.push((name.as_str(), text.as_str(), source));
    }
    let mut pack = head(&parsed, known)?;
    pack.digest = digest(files);
    let mut citations: BTreeSet<String> = known
        .iter()
        .filter(|other| pack.extends.contains(&other.id.id))
        .flat_map(|other| other.citations.iter().cloned())
        .collect();
    for (file, text, source) in &parsed {
        for citation in &source.citation {
            let place = Place { file, text, offset: Some(citation.span().start), rule: None };
            let citation = citation.get_ref();
            if !citations.insert(citation.id.clone()) {
                return Err(
                    place.error(format!("citation {:?} is there twice", citation.id), "keep one of the two")
                );
            }
            pack.citations.push(citation.clone());
        }
    }
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for rule in known.iter().flat_map(|other| &other.rules) {
        ids.insert(rule.clone(), "a pack loaded before".to_owned());
    }
    for (file, text, source) in parsed {
        for rule in source.rule {
            let offset = Some(rule.span().start);
            let rule = rule.into_inner();
            let place = Place { file, text, offset, rule: Some(&rule.id) };
            if let Some(first) = ids.insert(rule.id.clone(), file.to_owned()) {
                return Err(
                    place.error(format!("the id is already used in {first}"), "give this rule another id")
                );
            }
            if rule.id.starts_with("carried.") {
                let next = "`carried.` is for rules that a repository carries; take the tag's name";
                return Err(place.error("the id begins with `carried.`", next));
            }
            check_rule(&rule, &citations, &place)?;
            patterns(&rule).map_err(|problem| place.error(problem, "correct the pattern"))?;
            pack.places.push((file.to_owned(), place.line().unwrap_or(1)));
            pack.rules.push(rule);
        }
    }
    if pack.rules.len() > RULES_LIMIT {
        let place = Place { file: &pack.id.id, text: "", offset: None, rule: None };
        return Err(place.error(format!("more than {RULES_LIMIT} rules"), "split the pack"));
    }
    Ok(pack)
}

fn head(parsed: &[(&str, &str, FileSource)], known: &[Known]) -> Result<Pack, RuleError> {
    let mut found = None;
    for (file, text, source) in parsed {
        let Some(head) = &source.pack else { continue };
        let place = Place { file, text, offset: text.find("[pack]"), rule: None };
        if !file.ends_with("/pack.toml") {
            return Err(place.error("[pack] outside pack.toml", "move it to pack.toml"));
        }
        if head.format != FORMAT {
            let next = format!("use format = {FORMAT}, or a gitops-agent that knows the newer format");
            return Err(place.error(format!("unknown format {}", head.format), next));
        }
        let semver = |key: &str, value: &str| {
            semver::Version::parse(value)
                .map_err(|error| place.error(format!("{key} {value:?}: {error}"), "write it like 1.2.0"))
        };
        semver("version", &head.version)?;
        if semver("min_tool", &head.min_tool)? > semver("tool", env!("CARGO_PKG_VERSION"))? {
            let problem = format!("needs gitops-agent {} or later", head.min_tool);
            return Err(place.error(problem, "update gitops-agent, or use an older version of the pack"));
        }
        if !is_date(&head.as_of) {
            return Err(place.error(format!("as_of {:?} is no date", head.as_of), "write it like 2026-09-01"));
        }
        if head.id.is_empty()
            || !head.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        {
            return Err(
                place.error(format!("pack id {:?}", head.id), "use letters, digits, '-', '.' and '_'")
            );
        }
        if known.iter().any(|other| other.id.id == head.id) {
            return Err(
                place.error(format!("a pack {:?} is already loaded", head.id), "give this pack another id")
            );
        }
        if let Some(base) = head.extends.iter().find(|base| !known.iter().any(|other| other.id.id == **base))
        {
            return Err(place.error(
                format!("extends {base:?}, which is not loaded"),
                "name a pack loaded before this one",
            ));
        }
        let exists = |rule: &String| known.iter().any(|other| other.rules.contains(rule));
        if let Some(rule) = head.disable.iter().find(|rule| !exists(rule)) {
            return Err(place
                .error(format!("disables {rule:?}, which does not exist"), "see `gitops-agent rules list`"));
        }
        found = Some(Pack {
            id: PackId { id: head.id.clone(), version: head.version.clone() },
            as_of: head.as_of.clone(),
            extends: head.extends.clone(),
            disable: head.disable.clone(),
            digest: String::new(),
            citations: Vec::new(),
            rules: Vec::new(),
            places: Vec::new(),
        });
    }
    found.ok_or_else(|| {
        let file = parsed.first().map_or("pack.toml", |(file, _, _)| file);
        let place = Place { file, text: "", offset: None, rule: None };
        place.error(
            "no [pack] table",
            "add [pack] with id, version, format, min_tool, as_of and licence to pack.toml",
        )
    })
}

/// The id that a pack gives itself, before anything of it is checked.
#[allow(dead_code, reason = "the build script compares no versions")]
pub(super) fn id_of(files: &[(String, String)]) -> Option<String> {
    let (_, text) = files.first()?;
    let table: toml::Table = toml::from_str(text).ok()?;
    Some(table.get("pack")?.get("id")?.as_str()?.to_owned())
}

/// SHA-256, lower-case hex, over the files' names and texts.
pub(super) fn digest(files: &[(String, String)]) -> String {
    let mut sha = Sha256::new();
    for (name, text) in files {
        // The folder's name is the user's business; the file's own name orders the rules.
        let name = name.rsplit('/').next().unwrap_or(name);
        sha.update(name.as_bytes());
        sha.update([0]);
        sha.update(text.as_bytes());
        sha.update([0]);
    }
    hex(&sha.finalize())
}

/// Names and versions, sorted.
pub(crate) fn ids(known: &[Known]) -> Vec<&PackId> {
    let mut ids: Vec<&PackId> = known.iter().map(|pack| &pack.id).collect();
    ids.sort();
    ids
}

/// SHA-256, lower-case hex, over ids, versions and digests of packs.
pub(crate) fn digest_of(known: &[Known]) -> String {
    let mut lines: Vec<String> =
        known.iter().map(|pack| format!("{} {} {}\n", pack.id.id, pack.id.version, pack.digest)).collect();
    lines.sort();
    hex(&Sha256::digest(lines.concat().as_bytes()))
}

/// Whether `text` is a day of the calendar as `YYYY-MM-DD`.
pub(super) fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let &[year, month, day] = parts.as_slice() else { return false };
    let number = |text: &str, len: usize| {
        (text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u32>().unwrap_or(0))
    };
    let (Some(year), Some(month), Some(day)) = (number(year, 4), number(month, 2), number(day, 2)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}
