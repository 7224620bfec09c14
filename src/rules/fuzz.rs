//! What the fuzzer holds of this room's parsers.

use std::collections::BTreeSet;

use super::carried::{Carried, inline};
use super::{Class, RuleSet, automaton, check, embedded, pack, pattern};
use crate::facts::RepoPath;

/// Reads a pack of one file beside the built-in ones, and runs its rules over its own examples.
pub(crate) fn pack(text: &str) {
    let RuleSet { mut loaded, .. } = RuleSet::builtin();
    let known = embedded::known();
    let files = [("fuzz/pack.toml".to_owned(), text.to_owned())];
    let patterns = |rule: &_| pattern::try_patterns(rule, automaton::REGEX_LIMIT);
    let Ok(pack) = pack::parse_pack(&files, &known, &patterns) else { return };
    let ids: BTreeSet<&str> = pack.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids.len(), pack.rules.len(), "an id is there twice");
    let known = known.into_iter().chain([pack.known()]).collect();
    let rules = pack.rules.clone();
    loaded.push(pack);
    let set = RuleSet::of(known, loaded);
    for rule in &rules {
        for test in &rule.test {
            // Whether the example holds is its author's business.
            let _ = check::run(&set, rule, test, "2026-01-01");
        }
    }
}

/// Reads what a repository says of itself, and what a line allows.
pub(crate) fn carried(bytes: &[u8]) {
    let carried = Carried::read(bytes);
    assert_ne!(carried.class, Some(Class::Unknown));
    for path in [&b"lib/dose/calc.js"[..], b"a", b"\xff/\n", &[b'a'; 300]] {
        let path = RepoPath::new(path);
        carried.item(&path).map(super::carried::Item::text);
        for rule in carried.allow.iter().map(|allow| &allow.rule) {
            let allowed = carried.allowed(rule, Some(&path), "2026-01-01");
            assert!(
                allowed.is_none_or(|allowed| !allowed.until.is_empty() && allowed.reason.len() <= 4 * 200)
            );
        }
    }
    let rules = RuleSet::builtin();
    let (added, _) = rules.carried_rules(bytes);
    assert_eq!(added > 0, rules.check_carried(bytes, "2026-01-01").is_some());
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some((_, Some(allowed))) = inline(line) {
            assert!(!allowed.reason.trim().is_empty() && !allowed.owner.trim().is_empty());
        }
    }
}
