//! Which literals make which rules worth asking.
//!
//! Each rule has a gate: selections one of which must hold for the rule to hold. The literals of the
//! gate (keywords, context words, the fixed part of a glob) are looked for in one pass; a rule none of
//! whose literals occurs is not even parsed, let alone its regular expressions compiled. The build
//! writes the index of the built-in packs as text, one literal a line, which costs the hook microseconds
//! to read. Compiled into `build.rs` as well.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::rule::{Rule, Selection, Subject, Without};

/// Shorter literals would occur everywhere, and the search goes by three bytes.
pub(super) const SHORTEST: usize = 3;

/// Literals one of which stands in the path of every manifest that is parsed; a unit test holds that.
pub(super) const MANIFESTS: &[&str] = &[
    "cargo.",
    "poetry.lock",
    "uv.lock",
    "pdm.lock",
    "pyproject.toml",
    "pipfile",
    "package.",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "packages.",
    "yarn.lock",
    "pnpm-lock.yaml",
    "go.mod",
    "podfile",
    "composer.",
    "gemfile",
    ".gradle",
    "gradle.lockfile",
    "cmake",
    "pom.xml",
    "directory.",
    ".versions.toml",
    "proj",
    "dockerfile",
    "requirements",
    "constraints",
];

/// A literal, lower case, and the numbers of the rules that it wakes, between spaces: most literals never
/// occur, and then their numbers are never read.
pub(crate) type Entry = (Cow<'static, str>, Cow<'static, str>);

/// Literals with the rules that each one wakes; rules that nothing can gate.
#[derive(Default)]
pub(crate) struct Index {
    /// Literals of text, lower case.
    pub(crate) text: Vec<Entry>,
    /// Fixed parts of path patterns, lower case.
    pub(crate) path: Vec<Entry>,
    /// Rules asked of every file.
    pub(crate) always: Vec<u16>,
    /// Literals of the message, lower case, with rules that speak of the commit as a whole.
    pub(crate) message: Vec<Entry>,
    /// Rules about software items, asked of every file where the repository has an item map.
    pub(crate) items: Vec<u16>,
    /// Rules that speak of the commit as a whole and that nothing can gate, asked once.
    pub(crate) commit: Vec<u16>,
}

impl Index {
    /// The index of rules in their order.
    pub(crate) fn build<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut text: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        let mut path: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        let mut message: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        let mut index = Self::default();
        for (number, rule) in rules.enumerate() {
            let Ok(number) = u16::try_from(number) else { break };
            for selection in rule.sel.values() {
                for literal in text_literals(rule, selection) {
                    text.entry(literal).or_default();
                }
            }
            match gate(rule) {
                Gate::Commit => index.commit.push(number),
                Gate::Message(words) => {
                    for word in words {
                        wake(message.entry(word).or_default(), number);
                    }
                }
                Gate::Always => index.always.push(number),
                Gate::Items => index.items.push(number),
                Gate::Literals { text: words, path: parts } => {
                    for word in words {
                        wake(text.entry(word).or_default(), number);
                    }
                    for part in parts {
                        wake(path.entry(part).or_default(), number);
                    }
                }
            }
        }
        index.text = owned(text);
        index.path = owned(path);
        index.message = owned(message);
        index
    }

    /// Takes in the index of further rules, which are numbered from `first`.
    #[allow(dead_code, reason = "the build script has one index only")]
    pub(super) fn append(&mut self, other: Self, first: u16) {
        let moved =
            |rules: &[u16]| -> Vec<u16> { rules.iter().map(|rule| rule.saturating_add(first)).collect() };
        for (ours, theirs) in
            [(&mut self.text, other.text), (&mut self.path, other.path), (&mut self.message, other.message)]
        {
            for (literal, rules) in theirs {
                let rules = join(&moved(&numbers(&rules).collect::<Vec<_>>()));
                match ours.binary_search_by(|(known, _)| known.cmp(&literal)) {
                    Ok(at) => ours[at].1 = format!("{} {rules}", ours[at].1).into(),
                    Err(at) => ours.insert(at, (literal, rules.into())),
                }
            }
        }
        self.always.extend(moved(&other.always));
        self.items.extend(moved(&other.items));
        self.commit.extend(moved(&other.commit));
    }
}

/// The numbers of an [`Entry`].
pub(super) fn numbers(rules: &str) -> impl Iterator<Item = u16> {
    rules.split(' ').filter_map(|number| number.parse().ok())
}

fn join(rules: &[u16]) -> String {
    rules.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
}

fn owned(literals: BTreeMap<String, Vec<u16>>) -> Vec<Entry> {
    literals.into_iter().map(|(literal, rules)| (literal.into(), join(&rules).into())).collect()
}

fn wake(rules: &mut Vec<u16>, number: u16) {
    if rules.last() != Some(&number) {
        rules.push(number);
    }
}

/// What must occur before a rule is asked.
enum Gate {
    /// Nothing but commit-wide subjects.
    Commit,
    /// One of these, in the message.
    Message(Vec<String>),
    /// One of these, in the text or in the path.
    Literals { text: Vec<String>, path: Vec<String> },
    /// The repository must have an item map.
    Items,
    /// Nothing can be said.
    Always,
}

fn gate(rule: &Rule) -> Gate {
    let of = |names: &[String]| -> Vec<&Selection> {
        names.iter().filter_map(|name| rule.sel.get(name)).collect()
    };
    let (all, any) = (of(&rule.when.all), of(&rule.when.any));
    if all.iter().chain(&any).all(|selection| selection.subject.is_commit()) {
        let message = all.iter().find(|selection| selection.subject == Subject::Message);
        let words = message.map(|selection| lower(rule.keywords_of(selection))).unwrap_or_default();
        return if words.is_empty() { Gate::Commit } else { Gate::Message(words) };
    }
    if all.iter().any(|selection| selection.subject == Subject::Item) {
        return Gate::Items;
    }
    // Any one selection of `all` will do; text says most.
    let text = all.iter().filter(|selection| selection.subject.is_text());
    let path = all.iter().filter(|selection| matches!(selection.subject, Subject::Path | Subject::Manifest));
    if let Some(gate) = text.chain(path).find_map(|selection| literals(rule, selection)) {
        return gate.into_gate();
    }
    if any.is_empty() {
        return Gate::Always;
    }
    let mut sum = Literals::default();
    for selection in any {
        let Some(literals) = literals(rule, selection) else { return Gate::Always };
        sum.text.extend(literals.text);
        sum.path.extend(literals.path);
    }
    sum.into_gate()
}

#[derive(Default)]
struct Literals {
    text: Vec<String>,
    path: Vec<String>,
}

impl Literals {
    fn into_gate(self) -> Gate {
        Gate::Literals { text: self.text, path: self.path }
    }
}

/// The literals one of which occurs wherever the selection holds; `None` where there are none.
fn literals(rule: &Rule, selection: &Selection) -> Option<Literals> {
    if selection.subject.is_text() {
        let words = lower(rule.keywords_of(selection));
        let words = if words.is_empty() { needed_context(selection)? } else { words };
        return Some(Literals { text: words, path: Vec::new() });
    }
    if selection.subject == Subject::Path && selection.regex.is_empty() {
        let parts: Option<Vec<String>> = selection.glob.iter().map(|glob| fixed_part(glob)).collect();
        return parts.filter(|parts| !parts.is_empty()).map(|path| Literals { text: Vec::new(), path });
    }
    if selection.subject == Subject::Manifest {
        let parts = MANIFESTS.iter().map(|part| (*part).to_owned()).collect();
        return Some(Literals { text: Vec::new(), path: parts });
    }
    None
}

/// Context words without which no hit counts.
fn needed_context(selection: &Selection) -> Option<Vec<String>> {
    let context = selection.context.as_ref().filter(|context| context.without == Without::Drop)?;
    Some(lower(&context.words))
}

fn lower(words: &[String]) -> Vec<String> {
    words.iter().map(|word| word.to_ascii_lowercase()).collect()
}

/// Every literal that judging the selection needs the places of.
fn text_literals(rule: &Rule, selection: &Selection) -> Vec<String> {
    if !selection.subject.is_text() {
        return Vec::new();
    }
    let context = selection.context.iter().flat_map(|context| &context.words);
    rule.keywords_of(selection).iter().chain(context).map(|word| word.to_ascii_lowercase()).collect()
}

/// The longest run of a glob that stands in every path it matches, lower case.
fn fixed_part(glob: &str) -> Option<String> {
    let mut best = "";
    let (mut depth, mut start) = (0_u32, 0_usize);
    for (at, byte) in glob.bytes().enumerate() {
        let special = matches!(byte, b'*' | b'?' | b'[' | b']' | b'{' | b'}' | b'\\' | b',');
        if special {
            if depth == 0 && at - start > best.len() {
                best = &glob[start..at];
            }
            start = at + 1;
        }
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'\\' => return None,
            _ => {}
        }
    }
    if depth == 0 && glob.len() - start > best.len() {
        best = &glob[start..];
    }
    // `**/` also stands for no folder at all, so a leading slash after it need not be there.
    let best = best.strip_prefix('/').unwrap_or(best);
    let best = best.strip_suffix('/').unwrap_or(best);
    (best.len() >= SHORTEST).then(|| best.to_ascii_lowercase())
}
