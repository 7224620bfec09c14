//! Embeds the packs of `rules/`: read by the library's own strict loader, so that a broken pack breaks the
//! build; written as an index, rules without texts and examples, automata, and the sources for `rules list`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, error::Error, fs};

use regex_automata::dfa::{StartKind, dense};
use regex_automata::util::syntax::parse_with;
use regex_syntax::hir::{Class, Hir, HirKind};

/// One automaton, in bytes.
const AUTOMATON_LIMIT: usize = 128 << 10;
/// The same before it is made small.
const DENSE_LIMIT: usize = 4 << 20;

#[path = "src/hex.rs"]
mod hex;

#[allow(dead_code, unreachable_pub, reason = "the library uses the rest of these files")]
mod rules {
    #[path = "../src/rules/automaton.rs"]
    pub mod automaton;
    #[path = "../src/rules/beside.rs"]
    pub mod beside;
    #[path = "../src/rules/index.rs"]
    pub mod index;
    #[path = "../src/rules/pack.rs"]
    pub mod pack;
    #[path = "../src/rules/rule.rs"]
    pub mod rule;
    #[path = "../src/rules/strict.rs"]
    pub mod strict;
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=rules");
    println!("cargo:rerun-if-changed=src/rules");
    println!("cargo:rerun-if-changed=src/hex.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    link(&out)?;
    if let Err(error) = embed(Path::new("rules"), &out) {
        println!("cargo:error={error}");
    }
    Ok(())
}

/// The Azure SDK brings 45 000 addresses that a loader would have to write, and 200 pages that it would have
/// to copy, at every start of a hook: a third of what the hook costs. Linked to a fixed address there are
/// none (see docs/decisions.md for what that gives up).
///
/// The standard library asks for `libgcc_s`, which a loader would have to find, map and relocate. Found first, a
/// linker script of that name gives its archives instead, where the compiler has them.
fn link(out: &Path) -> Result<(), Box<dyn Error>> {
    let gnu_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
        && env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    if gnu_linux {
        println!("cargo:rustc-link-arg-bins=-no-pie");
        let asked = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
        let found =
            asked.is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_absolute());
        if found {
            let folder = out.join("link");
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
            println!("cargo:rustc-link-search=native={}", folder.display());
        }
    }
    Ok(())
}

fn embed(folder: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut sources = Vec::new();
    let mut known = Vec::new();
    let mut rules = Vec::new();
    for pack in rules::pack::pack_folders(folder)? {
        let files = rules::pack::pack_files(&pack)?;
        let pack = rules::pack::parse_pack(&files, &known, &|_| Ok(()))?;
        known.push(pack.known());
        rules.extend(pack.rules);
        sources.push(files);
    }
    let mut code = embedded_index(&rules::index::Index::build(rules.iter()));
    let patterns = patterns(&rules);
    let (places, automata) = automata(&patterns);
    code += &array("PATTERNS", "Made", &places, |(source, start, end)| {
        let beside: Vec<_> = patterns[*source].iter().filter_map(|words| beside_all(source, words)).collect();
        format!("({source:?}, {start}, {end}, &{:?}, &[{}])", needed(source), beside.join(", "))
    });
    fs::write(out.join("rules.automata"), automata)?;
    let bodies = rules
        .into_iter()
        .map(|rule| serde_json::to_string(&rule.without_texts()))
        .collect::<Result<Vec<_>, _>>()?;
    code += &array("BODIES", "&str", &bodies, |body| format!("{body:?}"));
    let ids: Vec<&rules::pack::PackId> = rules::pack::ids(&known);
    code += &array("PACKS", "(&str, &str)", &ids, |id| format!("({:?}, {:?})", id.id, id.version));
    code += &format!("pub(super) const DIGEST: &str = {:?};\n", rules::pack::digest_of(&known));
    fs::write(out.join("rules.rs"), code)?;
    fs::write(out.join("rules.known"), serde_json::to_string(&known)?)?;
    fs::write(out.join("rules.sources"), serde_json::to_string(&sources)?)?;
    Ok(())
}

/// The index as Rust, so that nothing is left to read or to fill when a hook starts.
fn embedded_index(index: &rules::index::Index) -> String {
    let mut code = String::new();
    for (name, entries) in [("TEXT", &index.text), ("PATH", &index.path)] {
        code +=
            &array(name, "Cow<'static, str>", entries, |(literal, _)| format!("Cow::Borrowed({literal:?})"));
        let rules = format!("{name}_RULES");
        code +=
            &array(&rules, "Cow<'static, str>", entries, |(_, rules)| format!("Cow::Borrowed({rules:?})"));
    }
    code += &array("MESSAGE", "Entry", &index.message, |(literal, rules)| {
        format!("(Cow::Borrowed({literal:?}), Cow::Borrowed({rules:?}))")
    });
    for (name, rules) in [("ALWAYS", &index.always), ("ITEMS", &index.items), ("COMMIT", &index.commit)] {
        code += &array(name, "u16", rules, u16::to_string);
    }
    code
}

/// A static array.
fn array<T>(name: &str, kind: &str, items: &[T], item: impl Fn(&T) -> String) -> String {
    let items: Vec<String> = items.iter().map(item).collect();
    format!("pub(super) static {name}: [{kind}; {}] = [{}];\n", items.len(), items.join(", "))
}

/// The patterns of all selections, sorted, with the keywords that are looked for beside each.
fn patterns(rules: &[rules::rule::Rule]) -> BTreeMap<String, BTreeSet<&[String]>> {
    let mut patterns: BTreeMap<String, BTreeSet<&[String]>> = BTreeMap::new();
    for rule in rules {
        for selection in rule.sel.values().filter(|selection| !selection.regex.is_empty()) {
            let keywords = patterns.entry(rules::automaton::one_of(&selection.regex)).or_default();
            if selection.subject.is_text() {
                keywords.insert(rule.keywords_of(selection));
            }
        }
    }
    patterns
}

/// Keywords with what stands beside each in a pattern, as Rust; none where nothing can be said.
fn beside_all(pattern: &str, keywords: &[String]) -> Option<String> {
    let beside = rules::beside::beside(pattern, keywords)?;
    let beside: Vec<String> = beside.iter().map(|beside| format!("&{beside:?}")).collect();
    Some(format!("(&{keywords:?}, &[{}])", beside.join(", ")))
}

/// Automata of the patterns, and where the one of each begins and ends. The few large ones, of long repetitions, are left
/// out: theirs are empty.
fn automata<'p>(
    patterns: &'p BTreeMap<String, BTreeSet<&[String]>>,
) -> (Vec<(&'p String, usize, usize)>, Vec<u8>) {
    let big_endian = env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|endian| endian == "big");
    let (mut places, mut all) = (Vec::new(), Vec::new());
    for source in patterns.keys() {
        let config = dense::Config::new()
            .start_kind(StartKind::Unanchored)
            .dfa_size_limit(Some(DENSE_LIMIT))
            .determinize_size_limit(Some(4 * DENSE_LIMIT))
            .accelerate(false)
            .minimize(true);
        let built = dense::DFA::builder()
            .configure(config)
            .syntax(rules::automaton::syntax())
            .thompson(rules::automaton::without_groups())
            .build(source);
        let sparse = built.ok().and_then(|dense| dense.to_sparse().ok());
        let bytes = sparse.map_or_else(Vec::new, |sparse| {
            if big_endian { sparse.to_bytes_big_endian() } else { sparse.to_bytes_little_endian() }
        });
        let start = all.len();
        if bytes.len() <= AUTOMATON_LIMIT {
            all.extend(bytes);
        }
        places.push((source, start, all.len()));
    }
    (places, all)
}

/// Bytes one of which every match of a pattern holds, where they are few and rare enough in lines of text to be worth
/// a look; else none.
fn needed(source: &str) -> Vec<u8> {
    let parsed = parse_with(source, &rules::automaton::syntax());
    let bytes = parsed.ok().and_then(|hir| needed_by(&hir)).unwrap_or_default();
    if bytes.len() > 3 || lines_with(&bytes) > 50 { Vec::new() } else { bytes.into_iter().collect() }
}

fn needed_by(hir: &Hir) -> Option<BTreeSet<u8>> {
    let rarest = |all: Vec<BTreeSet<u8>>| all.into_iter().min_by_key(lines_with);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => None,
        HirKind::Literal(literal) => rarest(literal.0.iter().map(|byte| BTreeSet::from([*byte])).collect()),
        HirKind::Class(Class::Bytes(class)) => {
            Some(class.ranges().iter().flat_map(|range| range.start()..=range.end()).collect())
        }
        HirKind::Class(Class::Unicode(_)) => None,
        HirKind::Repetition(repetition) if repetition.min > 0 => needed_by(&repetition.sub),
        HirKind::Repetition(_) => None,
        HirKind::Capture(capture) => needed_by(&capture.sub),
        HirKind::Concat(parts) => rarest(parts.iter().filter_map(needed_by).collect()),
        HirKind::Alternation(parts) => {
            let each: Option<Vec<_>> = parts.iter().map(needed_by).collect();
            Some(each?.into_iter().flatten().collect())
        }
    }
}

/// About how many lines of a hundred, of those that rules ask about, hold one of the bytes.
fn lines_with(bytes: &BTreeSet<u8>) -> u32 {
    let of_one = |byte: &u8| match byte {
        b'a'..=b'z' if !b"jqxz".contains(byte) => 60,
        b' ' | b'"' => 60,
        b'(' | b')' | b'.' | b'_' | b'-' | b':' | b'/' => 30,
        b'A'..=b'Z' | b'0'..=b'9' => 20,
        _ => 10,
    };
    bytes.iter().map(of_one).sum()
}
