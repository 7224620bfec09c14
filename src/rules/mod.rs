//! Rule packs: what in a commit touches HIPAA or FDA, with the citation that says so.
//!
//! Packs are data (`rules/` in this repository, one folder each; the format is in `docs/rules.md`): they run no
//! code and open nothing, and their regular expressions take linear time. The built-in ones are embedded
//! by `build.rs`; a folder of the user's adds to them or switches single rules off.
//!
//! Invariants:
//! * The same commit, packs and class give the same [`Verdict`], on any machine, from any number of
//!   threads: no clock, no environment, no order of hashing in it.
//! * A [`Finding`] never holds matched text, nor a hash of it.
//! * What a hook does not need is not done: see `index` for how.
//!
//! Limits: 200 findings and 100 points a commit, 1 MiB for a compiled regular expression, 65 535 rules.

mod additions;
mod allowed;
mod automaton;
#[cfg(test)]
mod beside;
mod carried;
pub(crate) mod check;
mod components;
mod embedded;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod index;
mod infer;
mod lines;
mod matcher;
mod moves;
mod pack;
mod pattern;
mod rule;
mod selection;
mod strict;
mod validators;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use additions::carried_ticket;
pub use check::{CheckFailure, CheckNote, CheckReport};
pub use infer::{INFERENCE, Inference, infer_from_face, infer_from_paths};
pub use pack::{Citation, CitationKind, Pack, PackId, RuleError};
pub use rule::{
    Allow, Class, Context, Example, Expect, Rule, Selection, Severity, Status, Subject, UnknownClass, When,
    Without,
};

use crate::facts::CommitFacts;
use crate::hex::hex;
use crate::literals::Literals;
use index::Index;
use matcher::Engine;
use pack::Known;
use selection::Compiled;

/// The pack of [`RuleSet::with_required_declarations`].
const REQUIRED: &str = include_str!("../../rules/optional/declared-required/pack.toml");

/// The largest `.gitops-agent.toml` that is looked at, in bytes.
const CARRIED_LIMIT: usize = 64 * 1024;

/// Where in a commit a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// In lines that were added.
    Added,
    /// In lines that were removed.
    Removed,
    /// In the message.
    Message,
    /// In the path, kind or mode of a file.
    Path,
    /// In the commit as a whole.
    Commit,
}

/// Why a finding counts nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allowed {
    /// The reason that the allowance gives.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Its last day, `YYYY-MM-DD`.
    pub until: String,
}

/// One rule that holds for one file, or for the commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The rule's id.
    pub rule: String,
    /// The rule's version.
    pub version: u32,
    /// How grave.
    pub severity: Severity,
    /// The tags it gives in the repository's class, sorted.
    pub tags: Vec<String>,
    /// The citations behind the tags, sorted.
    pub citations: Vec<String>,
    /// The file as [`crate::facts::RepoPath::display`] shows it; none for the commit as a whole.
    pub path: Option<String>,
    /// Where.
    pub side: Option<Side>,
    /// One-based line of the first hit: of the new version (added), the old one (removed), or the message.
    pub line: Option<u32>,
    /// Lines hit in this file.
    pub count: u32,
    /// Its share of the points, two decimals.
    pub points: f64,
    /// The allowance that covers it: then no points and no tag follow from it.
    pub allowed: Option<Allowed>,
}

/// What the rules say of a commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// By points, then rule, then path, those of carried rules behind all others; at most 200.
    pub findings: Vec<Finding>,
    /// The points of all findings, those of low and medium severity at most 24 together, at most 100 in all.
    pub points: f64,
    /// The tags of everything in force that was found, also beyond the 200.
    pub tags: BTreeSet<String>,
}

/// The packs in force.
pub struct RuleSet {
    known: OnceLock<Vec<Known>>,
    ids: Vec<PackId>,
    digest: String,
    engine: OnceLock<Engine>,
    /// Packs from folders, in the order of loading.
    loaded: Vec<Pack>,
    /// The built-in packs with texts and examples, parsed when asked for.
    builtin: OnceLock<Vec<Pack>>,
    /// Whether the built-in packs are among them, and not only what was loaded.
    embedded: bool,
    /// The rules that repositories carry, as far as they were met.
    carried: additions::Cache,
}

/// The files of the packs of one folder, in the order of loading: what was read, before it is understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackTexts(Vec<Files>);

/// Names and texts of the files of one pack.
type Files = Vec<(String, String)>;

impl PackTexts {
    /// Reads the pack in `dir`, or every pack in a folder of it.
    ///
    /// # Errors
    /// A file cannot be read, is none, too large or not UTF-8, or there is no pack.
    pub fn read(dir: &Path) -> Result<Self, RuleError> {
        let folders = pack::pack_folders(dir)?;
        Ok(Self(folders.iter().map(|folder| pack::pack_files(folder)).collect::<Result<_, _>>()?))
    }

    /// SHA-256 over names and texts, lower-case hex.
    #[must_use]
    pub fn digest(&self) -> String {
        let packs: String = self.0.iter().map(|files| pack::digest(files)).collect();
        hex(&Sha256::digest(packs.as_bytes()))
    }
}

/// A rule in the engine, parsed when first asked.
struct Slot {
    source: Source,
    ready: OnceLock<Option<Box<Compiled>>>,
}

enum Source {
    Embedded(&'static str),
    Loaded(Box<Rule>),
    Disabled,
}

impl Slot {
    fn new(source: Source) -> Self {
        Self { source, ready: OnceLock::new() }
    }

    fn compiled(&self, literals: &Literals) -> Option<&Compiled> {
        let ready = self.ready.get_or_init(|| {
            let rule = match &self.source {
                Source::Embedded(body) => serde_json::from_str(body).ok()?,
                Source::Loaded(rule) => (**rule).clone(),
                Source::Disabled => return None,
            };
            Some(Box::new(Compiled::new(rule, literals)))
        });
        ready.as_deref()
    }
}

impl RuleSet {
    /// The packs of this program.
    #[must_use]
    pub fn builtin() -> Self {
        Self::with(OnceLock::new(), embedded::ids(), embedded::DIGEST.to_owned(), Vec::new())
    }

    fn of(known: Vec<Known>, loaded: Vec<Pack>) -> Self {
        let ids = pack::ids(&known).into_iter().cloned().collect();
        let digest = pack::digest_of(&known);
        Self::with(OnceLock::from(known), ids, digest, loaded)
    }

    fn with(known: OnceLock<Vec<Known>>, ids: Vec<PackId>, digest: String, loaded: Vec<Pack>) -> Self {
        Self {
            known,
            ids,
            digest,
            engine: OnceLock::new(),
            loaded,
            builtin: OnceLock::new(),
            embedded: true,
            carried: additions::Cache::default(),
        }
    }

    /// These packs without the built-in ones.
    fn alone(packs: Vec<Pack>) -> Self {
        let builtin = OnceLock::from(Vec::new());
        Self { embedded: false, builtin, ..Self::of(packs.iter().map(Pack::known).collect(), packs) }
    }

    /// The built-in packs and `further`, but each pack that `other` has too taken from there, and what else it has
    /// added: what another version of a pack says.
    ///
    /// # Errors
    /// Anything that is not exactly the format, also together: a rule that another pack cites or disables may be gone.
    pub fn of_other_versions(further: Option<&PackTexts>, other: &PackTexts) -> Result<Self, RuleError> {
        let sources = embedded::sources();
        let mut left: Vec<&Files> = other.0.iter().collect();
        let mut packs: Vec<Pack> = Vec::new();
        let mut add = |files: &Files| -> Result<(), RuleError> {
            let known: Vec<Known> = packs.iter().map(Pack::known).collect();
            packs.push(pack::parse_pack(files, &known, &|rule| {
                pattern::try_patterns(rule, automaton::REGEX_LIMIT)
            })?);
            Ok(())
        };
        for files in sources.iter().chain(further.iter().flat_map(|further| &further.0)) {
            let id = pack::id_of(files);
            let place = left.iter().position(|files| id.is_some() && pack::id_of(files) == id);
            add(place.map_or(files, |place| left.remove(place)))?;
        }
        left.into_iter().try_for_each(add)?;
        Ok(Self::alone(packs))
    }

    /// Adds the pack in `dir`, or every pack in a folder of it.
    ///
    /// # Errors
    /// Anything that is not exactly the format; the error names file, line, rule and next step.
    pub fn with_folder(self, dir: &Path) -> Result<Self, RuleError> {
        self.with_texts(&PackTexts::read(dir)?)
    }

    /// Adds packs that were read before.
    ///
    /// # Errors
    /// Anything that is not exactly the format; the error names file, line, rule and next step.
    pub fn with_texts(self, texts: &PackTexts) -> Result<Self, RuleError> {
        let (embedded, mut known) = (self.embedded, self.known().to_vec());
        let mut loaded = self.loaded;
        for files in &texts.0 {
            let pack =
                pack::parse_pack(files, &known, &|rule| pattern::try_patterns(rule, automaton::REGEX_LIMIT))?;
            known.push(pack.known());
            loaded.push(pack);
        }
        Ok(if embedded { Self::of(known, loaded) } else { Self::alone(loaded) })
    }

    /// Adds the pack whose rule finds commits that touch something regulated and declare nothing.
    ///
    /// # Errors
    /// A pack of the same name is loaded.
    pub fn with_required_declarations(self) -> Result<Self, RuleError> {
        let files = vec![("declared-required/pack.toml".to_owned(), REQUIRED.replace("\r\n", "\n"))];
        self.with_texts(&PackTexts(vec![files]))
    }

    /// SHA-256 over the packs' ids, versions and digests, lower-case hex; the same on any machine.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The packs, sorted by id.
    #[must_use]
    pub fn packs(&self) -> &[PackId] {
        &self.ids
    }

    /// Judges a commit of a repository of that class, by the packs and by what its tree carries.
    #[must_use]
    pub fn judge(&self, facts: &CommitFacts, class: Class) -> Verdict {
        self.judge_asking(facts, class, &mut |rule, commit, view| rule.find(commit, view))
    }

    /// As [`RuleSet::judge`], and adds to `spent`, by rule of the packs, the time that asking it took.
    #[must_use]
    pub fn judge_timed(
        &self,
        facts: &CommitFacts,
        class: Class,
        spent: &mut BTreeMap<String, Duration>,
    ) -> Verdict {
        self.judge_asking(facts, class, &mut |rule, commit, view| {
            let start = Instant::now();
            let found = rule.find(commit, view);
            let time = start.elapsed();
            match spent.get_mut(&rule.rule.id) {
                Some(sum) => *sum += time,
                None => {
                    spent.insert(rule.rule.id.clone(), time);
                }
            }
            found
        })
    }

    fn judge_asking(&self, facts: &CommitFacts, class: Class, ask: &mut matcher::Ask<'_>) -> Verdict {
        let engine = self.engine.get_or_init(|| self.build_engine());
        let carried = facts.carried.as_deref().map(carried::Carried::read).unwrap_or_default();
        let more = !carried.rules.is_empty();
        let mut verdict = engine.judge_with(facts.judged(), facts, class, (self, carried), ask);
        if more {
            self.judge_carried(facts, class, &mut verdict);
        }
        verdict
    }

    fn build_engine(&self) -> Engine {
        let loaded = self.loaded.iter().flat_map(|pack| &pack.rules);
        let bodies: &[&str] = if self.embedded { &embedded::BODIES } else { &[] };
        let embedded = bodies.iter().map(|body| Source::Embedded(body));
        let sources = embedded.chain(loaded.clone().map(|rule| Source::Loaded(Box::new(rule.clone()))));
        let mut slots: Vec<Slot> = sources.map(Slot::new).collect();
        if self.embedded && self.loaded.is_empty() {
            return Engine::new(embedded::gates(), slots);
        }
        let disabled: Vec<&String> = self.loaded.iter().flat_map(|pack| &pack.disable).collect();
        for (name, slot) in self.known().iter().flat_map(|pack| &pack.rules).zip(&mut slots) {
            if disabled.contains(&name) {
                *slot = Slot::new(Source::Disabled);
            }
        }
        let mut index = if self.embedded { embedded::index() } else { Index::default() };
        index.append(Index::build(loaded), u16::try_from(bodies.len()).unwrap_or(u16::MAX));
        Engine::new(index.into(), slots)
    }

    /// What is known of the packs, in the order of loading.
    fn known(&self) -> &[Known] {
        self.known.get_or_init(embedded::known)
    }

    /// All packs in full, with texts, citations and examples: the built-in ones, then those of folders.
    pub fn full_packs(&self) -> impl Iterator<Item = &Pack> {
        let builtin = self.builtin.get_or_init(|| {
            let mut packs: Vec<Pack> = Vec::new();
            for files in embedded::sources() {
                let known: Vec<Known> = packs.iter().map(Pack::known).collect();
                packs.extend(pack::parse_pack(&files, &known, &|_| Ok(())));
            }
            packs
        });
        builtin.iter().chain(&self.loaded)
    }

    /// All rules in full, switched-off ones left out.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let disabled: BTreeSet<&String> = self.loaded.iter().flat_map(|pack| &pack.disable).collect();
        self.full_packs().flat_map(|pack| &pack.rules).filter(move |rule| !disabled.contains(&rule.id))
    }

    /// A table in Markdown: each citation with its title, the day to which it was checked, and its rules.
    #[must_use]
    pub fn citations_table(&self) -> String {
        let mut rows: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
        for pack in self.full_packs() {
            for citation in &pack.citations {
                let title = match &citation.url {
                    Some(url) => format!("[{}]({url})", citation.title),
                    None => citation.title.clone(),
                };
                rows.entry(citation.id.clone())
                    .or_insert_with(|| (format!("{title} | {}", pack.as_of), BTreeSet::new()));
            }
        }
        for rule in self.rules() {
            for citation in rule.tags.values().flatten() {
                if let Some((_, rules)) = rows.get_mut(citation) {
                    rules.insert(format!("`{}`", rule.id));
                }
            }
        }
        let rows: String = rows
            .into_iter()
            .map(|(id, (title, rules))| {
                format!("| {id} | {title} | {} |\n", rules.into_iter().collect::<Vec<_>>().join(", "))
            })
            .collect();
        format!("| citation | title | checked | rules |\n|---|---|---|---|\n{rows}")
    }

    /// Runs the examples of all rules through the engine; `today` (`YYYY-MM-DD`) decides which allowances have run
    /// out.
    #[must_use]
    pub fn check(&self, today: &str) -> CheckReport {
        check::check(self, today)
    }
}

impl std::fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleSet")
            .field("packs", &self.ids)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The class that a repository's own `.gitops-agent.toml` gives (`class = "device"`).
///
/// Untrusted: any size and content is safe, and whatever is not a class is none. That it never lowers a
/// class that was set or inferred is for the caller to hold.
#[must_use]
pub fn carried_class(toml_bytes: &[u8]) -> Option<Class> {
    carried::Carried::read(toml_bytes).class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_rules_are_embedded_whole() {
        let rules = RuleSet::builtin();
        let bodies: Vec<Rule> =
            embedded::BODIES.iter().filter_map(|body| serde_json::from_str(body).ok()).collect();
        let full: Vec<&Rule> = rules.rules().collect();
        assert_eq!(bodies.len(), embedded::BODIES.len());
        assert_eq!(
            bodies.iter().map(|rule| &rule.id).collect::<Vec<_>>(),
            full.iter().map(|rule| &rule.id).collect::<Vec<_>>()
        );
        for rule in full {
            assert_eq!(pattern::try_patterns(rule, automaton::REGEX_LIMIT), Ok(()), "{}", rule.id);
        }
        assert!(rules.packs().len() >= 4);
    }

    #[test]
    fn what_the_build_wrote_is_what_loading_gives() {
        let builtin = RuleSet::builtin();
        let loaded = RuleSet::of(embedded::known(), Vec::new());
        assert_eq!((builtin.packs(), builtin.digest()), (loaded.packs(), loaded.digest()));
        let packs: Vec<Known> = builtin.full_packs().map(Pack::known).collect();
        assert_eq!(format!("{packs:?}"), format!("{:?}", embedded::known()));
        let (built, written) = (Index::build(builtin.rules()), embedded::index());
        assert_eq!(
            (built.text, built.path, built.message, built.always, built.items, built.commit),
            (written.text, written.path, written.message, written.always, written.items, written.commit)
        );
    }

    #[test]
    fn kinds_have_the_names_of_file_kinds() {
        use crate::facts::FileKind;
        for kind in rule::KINDS {
            assert!(serde_json::from_value::<FileKind>(serde_json::json!(kind)).is_ok(), "{kind}");
        }
        let all = [FileKind::Source, FileKind::Test, FileKind::Migration, FileKind::Sbom, FileKind::Hl7v2];
        for kind in all {
            let name = serde_json::to_value(kind).unwrap_or_default();
            assert!(rule::KINDS.contains(&name.as_str().unwrap_or_default()), "{name}");
        }
    }

    #[test]
    fn changes_have_the_names_of_component_changes() {
        use crate::facts::ComponentChange::{Added, Major, Minor, Patch, Removed};
        assert_eq!([Added, Removed, Major, Minor, Patch].map(|change| change.name()), rule::CHANGES);
    }

    #[test]
    fn every_manifest_wakes_the_rules_about_manifests() {
        let names = include_str!("../facts/manifest/tests.rs");
        let manifests: Vec<&str> = names
            .split('"')
            .filter(|name| crate::facts::Manifest::is_one(name.as_bytes()) && !name.contains(' '))
            .collect();
        assert!(manifests.len() > 40);
        for name in manifests {
            let lower = name.to_ascii_lowercase();
            assert!(index::MANIFESTS.iter().any(|part| lower.contains(part)), "{name}");
        }
    }

    #[test]
    fn a_carried_class_is_taken_only_where_it_is_one() {
        assert_eq!(carried_class(b"class = \"device\"\n[items]\nx = 1\n"), Some(Class::Device));
        for bad in [
            &b"class = \"unknown\""[..],
            b"class = 3",
            b"class",
            b"",
            b"\xff\xfe",
            b"[class]\nclass = \"ehr\"",
            b"class = \"Device\"",
        ] {
            assert_eq!(carried_class(bad), None);
        }
        let large = format!("class = \"ehr\"\n#{}", "x".repeat(CARRIED_LIMIT));
        assert_eq!(carried_class(large.as_bytes()), None);
        assert_eq!(carried_class("a=[".repeat(20_000).as_bytes()), None);
    }
}
