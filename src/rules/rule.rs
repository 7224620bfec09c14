//! One rule as data: the keys of format 1, strict, the same type for a pack's TOML, for the compact form
//! that the build embeds, and for `rules list`.
//!
//! Compiled into `build.rs` as well, so that a broken pack breaks the build: nothing here may use the
//! rest of the crate, nor a crate that is no build dependency.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names of the file kinds that `kind` selections may use; a unit test holds them equal to `FileKind`.
pub(super) const KINDS: &[&str] = &[
    "source",
    "test",
    "doc",
    "config",
    "migration",
    "manifest",
    "lockfile",
    "generated",
    "binary",
    "hl7v2",
    "fhir",
    "dicom",
    "x12",
    "ccda",
    "sbom",
];

/// Names of the changes that `manifest` selections may use; a unit test holds them equal to `ComponentChange`.
pub(super) const CHANGES: &[&str] = &["added", "removed", "major", "minor", "patch"];

/// What a repository is, which decides the rules that are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Device-like software: dosing, monitoring, device data, imaging. Build, release and dependencies are FDA items.
    Device,
    /// A Part 11 record system, such as clinical-trial data capture.
    Records,
    /// An electronic health record or another store of patient records.
    Ehr,
    /// Ordinary software: no FDA tag, HIPAA only from identifiers and patient-data formats.
    Other,
    /// Nobody said: judged for HIPAA like `ehr`; an FDA tag only from rules that name `unknown`.
    #[default]
    Unknown,
}

impl Class {
    /// The name in settings, rules and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Records => "records",
            Self::Ehr => "ehr",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }
}

impl Class {
    /// Whether this class, which a repository gives itself, counts beside the one that its tree speaks for: it never
    /// lowers that.
    #[must_use]
    pub fn stands_beside(self, inferred: Option<Self>) -> bool {
        inferred.is_none_or(|inferred| self.demands() >= inferred.demands())
    }

    /// How much is asked of a repository of this class, for telling which of two asks more.
    #[must_use]
    pub fn demands(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::Unknown => 1,
            Self::Ehr => 2,
            Self::Device => 3,
            Self::Records => 4,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A class name that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown repository class {0:?}: use device, records, ehr, other or unknown")]
pub struct UnknownClass(pub String);

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        [Self::Device, Self::Records, Self::Ehr, Self::Other, Self::Unknown]
            .into_iter()
            .find(|class| class.name() == text)
            .ok_or_else(|| UnknownClass(text.chars().take(64).collect()))
    }
}

/// How far a rule is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Reported, but without points and without tags.
    Experimental,
    /// In force.
    Stable,
    /// No longer judged; kept so that old findings can be explained. Names its successor.
    Deprecated,
}

/// How grave what a rule looks for would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Worth a look.
    Medium,
    /// Worth a stop.
    High,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        })
    }
}

/// One rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `tag.topic.name`, unique over all packs.
    pub id: String,
    /// Raised on any change of meaning.
    pub version: u32,
    /// How far it is trusted.
    pub status: Status,
    /// The successor of a deprecated rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// What was found, in a few words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Why it matters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What a reviewer should ask for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ask: String,
    /// Tags, each with the citations that cause it.
    #[serde(default)]
    pub tags: BTreeMap<String, Vec<String>>,
    /// How grave.
    pub severity: Severity,
    /// Points of the first hit, 0 to 50.
    pub weight: f64,
    /// Classes in which it is asked; empty is every class but `other`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<Class>,
    /// Literals, in any case, one of which every line has that a text selection can match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// The named selections.
    pub sel: BTreeMap<String, Selection>,
    /// How they combine.
    pub when: When,
    /// What is let through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Allow>,
    /// Examples that must and must not match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<Example>,
}

/// What a selection looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Lines that the new version has and the old one has not.
    Added,
    /// Lines that the old version has and the new one has not.
    Removed,
    /// Added lines without those that were only moved or re-indented anywhere in the commit.
    NetAdded,
    /// Removed lines without those that were only moved or re-indented anywhere in the commit.
    NetRemoved,
    /// The lines of the commit's message.
    Message,
    /// The file's path, the old one of a rename included.
    Path,
    /// The file's kind.
    Kind,
    /// A component in a parsed manifest.
    Manifest,
    /// `Name <address>` of the author.
    Author,
    /// The `Key: value` lines that end the message.
    Trailer,
    /// The number of changed lines in the commit (`min_count`).
    Size,
    /// What the other rules found in the commit, a line each: `RULE SEVERITY TAG…`. Not what is allowed.
    Found,
    /// The software item of the file by the repository's own item map: IEC 62304 class, or `-`, and name.
    Item,
    /// The file's modes as `OLD NEW`, in octal, where they differ.
    Mode,
}

impl Subject {
    /// Whether it reads the text of changed lines.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Added | Self::Removed | Self::NetAdded | Self::NetRemoved)
    }

    /// Whether it asks for what a file is, not for what is in it.
    #[allow(dead_code, reason = "the build script asks no rules")]
    pub(super) fn is_file(self) -> bool {
        matches!(self, Self::Path | Self::Kind | Self::Mode | Self::Item)
    }

    /// Whether it is the same for every file of a commit.
    pub(super) fn is_commit(self) -> bool {
        matches!(self, Self::Message | Self::Author | Self::Trailer | Self::Size | Self::Found)
    }
}

/// A named part of a rule that holds or does not hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// What it looks at.
    #[serde(rename = "in")]
    pub subject: Subject,
    /// Patterns, one of which must match (bytes, ASCII classes, linear time). For lines of text none means any
    /// line with a letter or digit in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regex: Vec<String>,
    /// Path patterns, one of which must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub glob: Vec<String>,
    /// File kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kind: Vec<String>,
    /// Literals for this selection in place of the rule's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Hits that one file needs, 1 if absent. For `size` the number of changed lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_count: Option<u32>,
    /// The capture group that is the candidate for validator and entropy; the whole match if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// Drops candidates that cannot be what they look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<String>,
    /// Drops candidates with less entropy, in bits a byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_min: Option<f64>,
    /// Words that must stand near.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// Looks at lines of code only, not at those that are wholly comment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub code: bool,
    /// For `net_removed`: holds only where the commit as a whole removes more such lines than it adds, so that a
    /// safeguard which was reworded or moved with changes is none that is gone. Deleted files do not count:
    /// what they guarded went with them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fewer: bool,
    /// For `net_added`: holds only where the commit as a whole adds more such lines than it removes, so that what
    /// was only reworded or renamed around is no change of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Component patterns, in any case, for `manifest`: of the whole name or of its last part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub package: Vec<String>,
    /// Kinds of component change, for `manifest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub change: Vec<String>,
}

/// Words that must stand near a hit, among the changed lines of the same side.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The words, in any case.
    pub words: Vec<String>,
    /// How many lines away a word may be.
    pub lines: u32,
    /// What a hit without a word is worth.
    #[serde(default)]
    pub without: Without,
}

/// What a hit without a context word is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Without {
    /// Nothing (`drop`).
    #[default]
    Drop,
    /// The rule's points divided (`weight/3`).
    Divided(f64),
}

impl TryFrom<String> for Without {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "drop" {
            return Ok(Self::Drop);
        }
        text.strip_prefix("weight/")
            .and_then(|number| number.parse::<u8>().ok())
            .filter(|number| *number > 0)
            .map(|number| Self::Divided(f64::from(number)))
            .ok_or_else(|| format!("`without` is \"drop\" or \"weight/N\", not {text:?}"))
    }
}

impl From<Without> for String {
    fn from(without: Without) -> Self {
        match without {
            Without::Drop => "drop".to_owned(),
            Without::Divided(number) => format!("weight/{number}"),
        }
    }
}

/// How selections combine. All of `all`, `at_least` (1) of `any` where there are any, none of `none`.
///
/// Selections about text, path, kind and mode are asked of one file at a time, so that "call deleted"
/// and "not in a test" speak of the same file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Every one must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<String>,
    /// At least one, or `at_least`, must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<String>,
    /// None may hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub none: Vec<String>,
    /// How many of `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<usize>,
    /// Points added where a further selection holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub boost: BTreeMap<String, f64>,
    /// Factor on the points, by class (0 to 2).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_class: BTreeMap<Class, f64>,
}

/// An exception. What it covers stays among the findings, marked, without points and tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Path patterns; absent is every path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// Patterns for the line; absent is every line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regex: Vec<String>,
    /// Why it is let through.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// The last day on which it counts, against the commit's committer date in UTC (`YYYY-MM-DD`).
    pub until: String,
}

/// An example of what a rule must or must not find.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// What it shows.
    pub name: String,
    /// The file's path; a commit without files if absent.
    #[serde(default)]
    pub path: Option<String>,
    /// The file's kind, `source` if absent.
    #[serde(default)]
    pub kind: Option<String>,
    /// Changed lines, each after `+`, `-` or a space.
    #[serde(default)]
    pub diff: Option<String>,
    /// The whole text of a new file, in place of `diff`.
    #[serde(default)]
    pub file: Option<String>,
    /// The commit's message.
    #[serde(default)]
    pub message: Option<String>,
    /// The author as `Name <address>`.
    #[serde(default)]
    pub author: Option<String>,
    /// The repository's class; the first of the rule's scope if absent, else `ehr`.
    #[serde(default)]
    pub scope: Option<Class>,
    /// The text of the repository's `.gitops-agent.toml`.
    #[serde(default)]
    pub carried: Option<String>,
    /// What must come out.
    pub expect: Expect,
    /// The line of the first hit.
    #[serde(default)]
    pub line: Option<u32>,
}

/// What an example expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// The rule finds something.
    Match,
    /// The rule finds nothing.
    NoMatch,
}

impl Rule {
    /// The rule as the build embeds it: what judging needs.
    #[allow(dead_code, reason = "the build script's")]
    pub(crate) fn without_texts(self) -> Self {
        Self { title: String::new(), why: String::new(), ask: String::new(), test: Vec::new(), ..self }
    }

    /// Whether it speaks of what other rules found, and so is asked after them.
    pub(super) fn asks_findings(&self) -> bool {
        self.sel.values().any(|selection| selection.subject == Subject::Found)
    }

    /// The literals that gate a text selection: its own, else the rule's.
    pub(crate) fn keywords_of<'a>(&'a self, selection: &'a Selection) -> &'a [String] {
        if selection.keywords.is_empty() { &self.keywords } else { &selection.keywords }
    }

    /// The tags that it can give in a class; `None` where it is not asked at all.
    ///
    /// `unknown` is judged for every tag but FDA like `ehr`, and for FDA only by rules that name it;
    /// `other` only by rules that name it, and never for FDA.
    pub(super) fn tags_in(&self, class: Class) -> Option<BTreeMap<&str, &[String]>> {
        self.each_tag_in(class).map(Iterator::collect)
    }

    /// Whether it is asked in a class.
    pub(super) fn is_asked_in(&self, class: Class) -> bool {
        self.each_tag_in(class).is_some()
    }

    fn each_tag_in(&self, class: Class) -> Option<impl Iterator<Item = (&str, &[String])>> {
        let named = self.scope.contains(&class);
        let asked = match class {
            Class::Other => named,
            Class::Unknown => named || self.scope.is_empty() || self.scope.contains(&Class::Ehr),
            Class::Device | Class::Records | Class::Ehr => named || self.scope.is_empty(),
        };
        if !asked {
            return None;
        }
        let fda = match class {
            Class::Other => false,
            Class::Unknown => named,
            _ => true,
        };
        let mut tags = self
            .tags
            .iter()
            .filter(move |(tag, _)| fda || tag.as_str() != "FDA")
            .map(|(tag, citations)| (tag.as_str(), citations.as_slice()))
            .peekable();
        // A rule that has tags, but none here, has nothing to say here.
        (self.tags.is_empty() || tags.peek().is_some()).then_some(tags)
    }
}
