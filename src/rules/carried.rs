//! What a repository says of itself in `.gitops-agent.toml`, and allowances in the text of its files.
//!
//! Both are somebody else's input: any size and content is safe, what is not as it must be is left out, and
//! nothing here can lower a class or make a finding disappear. An allowance keeps its finding, marked, without
//! points and tag. Limits: 64 KiB, 200 items, 200 allowances, 50 paths each, 200 characters of a reason.

use serde::Deserialize;

use super::pack::is_date;
use super::rule::Class;
use super::{Allowed, CARRIED_LIMIT};
use crate::facts::RepoPath;

const MAX_ENTRIES: usize = 200;
const MAX_PATHS: usize = 50;
const MAX_TEXT: usize = 200;

/// How an allowance in a file begins.
pub(super) const INLINE: &[u8] = b"gitops-agent: allow ";

/// What the file says, as far as it says it rightly.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) class: Option<Class>,
    pub(super) items: Vec<Item>,
    pub(super) allow: Vec<Allow>,
    /// Ids of the rules that it adds, whether they can be used or not.
    pub(super) rules: Vec<String>,
}

/// A software item: some paths with a class of their own.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) paths: Vec<String>,
    /// Class of the paths, where it asks more than the repository's.
    #[serde(default)]
    pub(super) class: Option<Class>,
    /// Safety class of IEC 62304: `A`, `B` or `C`.
    #[serde(default)]
    pub(super) iec62304: Option<String>,
}

/// What of a carried rule is read here; `additions` has the rest.
#[derive(Deserialize)]
struct Named {
    id: String,
}

/// An allowance for one rule.
#[derive(Debug, Deserialize)]
pub(super) struct Allow {
    pub(super) rule: String,
    #[serde(default)]
    pub(super) paths: Vec<String>,
    reason: String,
    owner: String,
    until: String,
}

impl Carried {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= CARRIED_LIMIT);
        let Some(table) = text.and_then(|text| toml::from_str::<toml::Table>(text).ok()) else {
            return Self::default();
        };
        let class = table.get("class").and_then(toml::Value::as_str).and_then(|class| class.parse().ok());
        let items: Vec<Item> = list(&table, "item");
        let allow: Vec<Allow> = list(&table, "allow");
        let rules: Vec<Named> = list(&table, "rule");
        Self {
            class: class.filter(|class| *class != Class::Unknown),
            items: items.into_iter().filter(|item| usable(&item.paths) && !item.paths.is_empty()).collect(),
            allow: allow
                .into_iter()
                .filter(|allow| usable(&allow.paths) && complete(&allow.reason, &allow.owner, &allow.until))
                .collect(),
            rules: rules.into_iter().map(|rule| rule.id).collect(),
        }
    }

    /// The item of a path: the first that names it.
    pub(super) fn item(&self, path: &RepoPath) -> Option<&Item> {
        self.items.iter().find(|item| any_glob(&item.paths, path))
    }

    /// The allowance for a rule in a file, if it has not run out on the commit's day.
    pub(super) fn allowed(&self, rule: &str, path: Option<&RepoPath>, day: &str) -> Option<Allowed> {
        let allow = self.allow.iter().find(|allow| {
            allow.rule == rule
                && day <= allow.until.as_str()
                && (allow.paths.is_empty() || path.is_some_and(|path| any_glob(&allow.paths, path)))
        })?;
        Some(Allowed { reason: short(&allow.reason), owner: short(&allow.owner), until: allow.until.clone() })
    }
}

impl Item {
    /// What `item` selections match: `C dosing`, and `- dosing` where no safety class is given.
    pub(super) fn text(&self) -> String {
        let class = self.iec62304.as_deref().filter(|class| matches!(*class, "A" | "B" | "C"));
        format!("{} {}", class.unwrap_or("-"), short(&self.name))
    }
}

/// The entries that are as they must be; one that is not does not cost the others.
fn list<T: serde::de::DeserializeOwned>(table: &toml::Table, key: &str) -> Vec<T> {
    let entries = table.get(key).and_then(toml::Value::as_array).into_iter().flatten().take(MAX_ENTRIES);
    entries.filter_map(|entry| entry.clone().try_into().ok()).collect()
}

fn usable(globs: &[String]) -> bool {
    globs.len() <= MAX_PATHS
        && globs
            .iter()
            .all(|glob| glob.len() <= MAX_TEXT && !glob.starts_with('!') && fast_glob::validate(glob).is_ok())
}

fn complete(reason: &str, owner: &str, until: &str) -> bool {
    !reason.trim().is_empty() && !owner.trim().is_empty() && is_date(until)
}

pub(super) fn any_glob(globs: &[String], path: &RepoPath) -> bool {
    globs.iter().any(|glob| fast_glob::glob_match(glob, path.as_bytes()))
}

fn short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT).collect()
}

/// The allowance that stands in a line: the rule that it names, and what it says where that is complete.
///
/// `gitops-agent: allow RULE until=DATE reason="…"`, with `owner="…"` where it is not the commit's author.
pub(super) fn inline(line: &[u8]) -> Option<(String, Option<Allowed>)> {
    let at = memchr::memmem::find(line, INLINE)?;
    let text = String::from_utf8_lossy(&line[at + INLINE.len()..]);
    let (rule, rest) = text.trim_start().split_once(' ').unwrap_or((text.trim(), ""));
    let value = |key: &str| -> Option<String> {
        let (_, value) = rest.split_once(&format!("{key}="))?;
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?.0,
            None => value.split_whitespace().next()?,
        };
        Some(short(value.trim()))
    };
    let owner = value("owner").unwrap_or_else(|| "the commit's author".to_owned());
    let allowed = value("reason").zip(value("until")).map(|(reason, until)| Allowed { reason, owner, until });
    let allowed = allowed.filter(|allowed| complete(&allowed.reason, &allowed.owner, &allowed.until));
    Some((rule.to_owned(), allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_costs_only_itself() {
        let carried = Carried::read(
            b"class = \"device\"\ntenant = \"x\"\n[[item]]\nname = \"dosing\"\npaths = [\"lib/dose/**\"]\niec62304 = \"C\"\n\
              [[item]]\nname = 3\npaths = []\n[[allow]]\nrule = \"a.b.c\"\nreason = \"r\"\nowner = \"o\"\nuntil = \"2026-12-31\"\n\
              [[allow]]\nrule = \"a.b.d\"\nreason = \"\"\nowner = \"o\"\nuntil = \"2026-12-31\"\n",
        );
        assert_eq!(carried.class, Some(Class::Device));
        assert_eq!((carried.items.len(), carried.allow.len()), (1, 1));
        assert_eq!(
            carried.item(&RepoPath::new("lib/dose/a.js")).map(Item::text).as_deref(),
            Some("C dosing")
        );
        assert!(carried.item(&RepoPath::new("lib/a.js")).is_none());
        assert!(carried.allowed("a.b.c", None, "2026-12-31").is_some());
        assert!(carried.allowed("a.b.c", None, "2027-01-01").is_none());
        assert!(carried.allowed("a.b.d", None, "2026-01-01").is_none());
        for bad in [&b"\xff"[..], b"a=[", b"item = 3", b"[[item]]\npaths = [\"{\"]\nname = \"x\""] {
            assert!(Carried::read(bad).items.is_empty());
        }
    }

    #[test]
    fn an_allowance_in_a_line_must_be_complete() {
        let read = |text: &str| inline(text.as_bytes());
        let (rule, allowed) =
            read("x(); // gitops-agent: allow a.b.c until=2026-12-31 reason=\"a test key\"").expect("one");
        assert_eq!(
            (rule.as_str(), allowed.map(|allowed| allowed.reason).as_deref()),
            ("a.b.c", Some("a test key"))
        );
        for void in [
            "# gitops-agent: allow a.b.c",
            "# gitops-agent: allow a.b.c until=2026-12-31",
            "# gitops-agent: allow a.b.c until=soon reason=\"x\"",
            "# gitops-agent: allow a.b.c until=2026-12-31 reason=\"\"",
            "# gitops-agent: allow  ",
        ] {
            assert!(read(void).is_some_and(|(_, allowed)| allowed.is_none()), "{void}");
        }
        assert!(read("gitops-agent allows").is_none());
    }
}
