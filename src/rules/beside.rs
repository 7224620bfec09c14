//! What stands beside a keyword wherever a pattern matches: `lock` is in many lines, `lockO` of `lock_?order` in few.
//!
//! Most lines with a keyword do not match, and a look at two bytes tells so for a tenth of what the pattern takes. The
//! build works out the bytes: a pattern is taken apart into its variants, as sequences of bytes and of parts that
//! repeat; in each the keyword is chosen that has the rarest neighbours.
//!
//! Compiled into `build.rs`, and for its tests into the library.

use regex_automata::util::syntax::parse_with;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::automaton::{AsciiSet, syntax};

/// More variants are not looked at apart: the part of the pattern that makes them counts as one that repeats.
const VARIANTS: usize = 20_000;

const WORD: AsciiSet = {
    let (mut bytes, mut byte) = (0, 0_u8);
    while byte < 128 {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            bytes |= 1 << byte;
        }
        byte += 1;
    }
    bytes
};

#[derive(Clone, Copy)]
enum Part {
    /// One byte of these; whether it may be one beyond ASCII.
    One(AsciiSet, bool),
    /// Any number of these.
    Run(AsciiSet),
    /// Where a word begins or ends.
    Boundary,
}

/// What may stand before and behind a keyword at once. Bytes beyond ASCII may always, and so may the end of a line where
/// the pattern says nothing.
type Neighbours = (AsciiSet, AsciiSet);

/// More of them for one keyword become one.
const APART: usize = 4;

/// For each of the keywords its neighbours: every match holds one of the keywords between neighbours of its own. None
/// where a match may hold no keyword.
pub(crate) fn beside(pattern: &str, keywords: &[String]) -> Option<Vec<Vec<Neighbours>>> {
    let hir = parse_with(pattern, &syntax()).ok()?;
    let mut all = vec![Vec::new(); keywords.len()];
    for variant in variants(&hir) {
        let places = keywords.iter().enumerate().flat_map(|(number, keyword)| {
            let word = keyword.as_bytes();
            let ends = word.first().zip(word.last());
            let at = (0..variant.len()).filter(|at| spells(&variant[*at..], word));
            let variant = &variant;
            at.filter_map(move |at| {
                let (first, last) = ends?;
                let before = neighbours(variant[..at].iter().rev(), *first);
                let behind = neighbours(variant[at + word.len()..].iter(), *last);
                Some((number, (before, behind)))
            })
        });
        let (number, best) = places.min_by_key(|(_, (before, behind))| share(*before) * share(*behind))?;
        put(&mut all[number], best);
    }
    for beside in all.iter_mut().filter(|beside| beside.len() > APART) {
        let any = |one: Neighbours, other: &Neighbours| (one.0 | other.0, one.1 | other.1);
        *beside = vec![beside.iter().fold((0, 0), any)];
    }
    Some(all)
}

/// Adds neighbours, to others with the same on one side if there are any.
fn put(all: &mut Vec<Neighbours>, (before, behind): Neighbours) {
    if let Some(same) = all.iter_mut().find(|other| other.0 == before) {
        same.1 |= behind;
    } else if let Some(same) = all.iter_mut().find(|other| other.1 == behind) {
        same.0 |= before;
    } else {
        all.push((before, behind));
    }
}

/// Whether a sequence begins with a word, in whatever case.
fn spells(parts: &[Part], word: &[u8]) -> bool {
    let is = |part: &Part, byte: &u8| {
        let both: AsciiSet = 1 << byte.to_ascii_lowercase() | 1 << byte.to_ascii_uppercase();
        matches!(part, Part::One(bytes, false) if *bytes != 0 && bytes & !both == 0)
    };
    word.is_ascii() && parts.len() >= word.len() && parts.iter().zip(word).all(|(part, byte)| is(part, byte))
}

/// What may stand beside a byte, from the sequence on that side of it.
fn neighbours<'p>(parts: impl Iterator<Item = &'p Part>, byte: u8) -> AsciiSet {
    let (mut all, mut limit) = (0, !0);
    for part in parts {
        match part {
            Part::One(bytes, _) => return (all | bytes) & limit,
            Part::Run(bytes) => all |= bytes,
            // Only what is next to the byte is told by it.
            Part::Boundary if all == 0 => limit &= if WORD >> byte & 1 == 1 { !WORD } else { WORD },
            Part::Boundary => {}
        }
    }
    limit
}

/// About how often one of the bytes stands somewhere.
fn share(bytes: AsciiSet) -> u32 {
    let of_one = |byte: u8| match byte {
        b'a'..=b'z' | b' ' | b'_' | b'.' | b'"' => 4,
        _ => 1,
    };
    (0..128).filter(|byte| bytes >> byte & 1 == 1).map(of_one).sum()
}

fn variants(hir: &Hir) -> Vec<Vec<Part>> {
    let repeated = |hir: &Hir| vec![Part::Run(bytes(hir))];
    match hir.kind() {
        HirKind::Empty => vec![Vec::new()],
        HirKind::Look(Look::WordAscii) => vec![vec![Part::Boundary]],
        HirKind::Look(_) => vec![Vec::new()],
        HirKind::Literal(literal) => vec![literal.0.iter().map(|byte| one(*byte..=*byte)).collect()],
        HirKind::Class(class) => {
            // Alternatives of single letters are one of letters, though nothing here is.
            let class = match class {
                Class::Bytes(class) => Some(class.clone()),
                Class::Unicode(class) => class.to_byte_class(),
            };
            let Some(class) = class else { return vec![vec![Part::Run(!0)]] };
            let all = class.ranges().iter().map(|range| one(range.start()..=range.end()));
            let part = all.reduce(|all, part| match (all, part) {
                (Part::One(some, high), Part::One(more, higher)) => Part::One(some | more, high || higher),
                _ => all,
            });
            vec![part.into_iter().collect()]
        }
        HirKind::Repetition(repetition) => {
            let once = variants(&repetition.sub);
            match (repetition.min, repetition.max) {
                (0, Some(1)) => std::iter::once(Vec::new()).chain(once).collect(),
                (0, _) => vec![repeated(&repetition.sub)],
                (1, Some(1)) => once,
                _ => product(&once, &[repeated(&repetition.sub)]),
            }
        }
        HirKind::Capture(capture) => variants(&capture.sub),
        HirKind::Concat(parts) => parts.iter().fold(vec![Vec::new()], |all, part| {
            let of_part = variants(part);
            if all.len() * of_part.len() > VARIANTS {
                product(&all, &[repeated(part)])
            } else {
                product(&all, &of_part)
            }
        }),
        HirKind::Alternation(parts) => parts.iter().flat_map(variants).collect(),
    }
}

fn product(all: &[Vec<Part>], further: &[Vec<Part>]) -> Vec<Vec<Part>> {
    all.iter().flat_map(|one| further.iter().map(move |other| [one.as_slice(), other].concat())).collect()
}

fn one(bytes: std::ops::RangeInclusive<u8>) -> Part {
    let high = *bytes.end() >= 128;
    Part::One(bytes.filter(u8::is_ascii).fold(0, |all, byte| all | 1 << byte), high)
}

/// All bytes that a match may hold.
fn bytes(hir: &Hir) -> AsciiSet {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(_) | HirKind::Class(_) => {
            let all = variants(hir);
            all.iter().flatten().fold(0, |all, part| match part {
                Part::One(bytes, _) | Part::Run(bytes) => all | bytes,
                Part::Boundary => all,
            })
        }
        HirKind::Repetition(repetition) => bytes(&repetition.sub),
        HirKind::Capture(capture) => bytes(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(0, |all, part| all | bytes(part))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    use super::super::lines::Keyword;
    use super::super::pattern::Pattern;
    use super::super::rule::Rule;
    use super::super::{automaton, embedded};
    use super::*;

    fn of(pattern: &str, keywords: &[&str]) -> Option<Vec<Vec<(String, String)>>> {
        let keywords: Vec<String> = keywords.iter().map(|word| (*word).to_owned()).collect();
        let letters = |bytes: AsciiSet| {
            let all: String = (0..128_u8).filter(|byte| bytes >> byte & 1 == 1).map(char::from).collect();
            match bytes {
                AsciiSet::MAX => "any".to_owned(),
                _ if bytes == !WORD => "no word".to_owned(),
                _ => all,
            }
        };
        let beside = beside(pattern, &keywords)?;
        let named =
            |all: Vec<Neighbours>| all.into_iter().map(|one| (letters(one.0), letters(one.1))).collect();
        Some(beside.into_iter().map(named).collect())
    }

    fn pair(before: &str, behind: &str) -> (String, String) {
        (before.to_owned(), behind.to_owned())
    }

    #[test]
    fn neighbours_follow_from_the_pattern() {
        assert_eq!(of(r"\block_?(order|item)\(", &["lock"]), Some(vec![vec![pair("no word", "_io")]]));
        assert_eq!(of(r"(?i)(keep|skip)_?log\w*", &["log"]), Some(vec![vec![pair("P_p", "any")]]));
        assert_eq!(
            of(r"keep_?log|\w*log_?mode", &["log"]),
            Some(vec![vec![pair("_p", "any"), pair("any", "_m")]])
        );
        // The rarer of two keywords, and no other, is looked for.
        assert_eq!(
            of("update[0-9]+axolotl7", &["update", "axolotl"]),
            Some(vec![vec![], vec![pair("0123456789", "7")]])
        );
        assert_eq!(
            of(r"a\s*key\s*=", &["key"]),
            Some(vec![vec![pair("\t\n\u{b}\u{c}\r a", "\t\n\u{b}\u{c}\r =")]])
        );
    }

    #[test]
    fn a_pattern_that_matches_without_a_keyword_says_nothing() {
        assert_eq!(of("lock|freeze", &["lock"]), None);
        assert_eq!(of("(lock)?er", &["lock"]), None);
        assert_eq!(of("l.ck", &["lock"]), None);
        assert_eq!(of("lock", &[]), None);
    }

    #[test]
    fn what_is_too_much_to_look_at_apart_is_taken_together() {
        // A hundred thousand variants.
        let many = format!("{}lock_", "(a|b|c|d|e|f|g|h|i|j)".repeat(5));
        assert_eq!(of(&many, &["lock"]), Some(vec![vec![pair("abcdefghij", "_")]]));
        let pairs: Vec<String> = (0..=APART).map(|at| format!("{at}lock{}", 9 - at)).collect();
        assert_eq!(of(&pairs.join("|"), &["lock"]), Some(vec![vec![pair("01234", "56789")]]));
        let fewer = of(&pairs[..APART].join("|"), &["lock"]).map(|all| all[0].len());
        assert_eq!(fewer, Some(APART));
    }

    #[test]
    fn no_match_of_a_built_in_pattern_is_overlooked() {
        let mut runner = TestRunner::deterministic();
        let (mut patterns, mut matches) = (0, 0);
        for rule in &embedded::BODIES {
            let rule: Rule = serde_json::from_str(rule).expect("a rule");
            for selection in rule.sel.values().filter(|selection| selection.subject.is_text()) {
                let keywords = rule.keywords_of(selection);
                let source = automaton::one_of(&selection.regex);
                let pattern = Pattern::new(&selection.regex);
                let Some(beside) = pattern.beside(keywords) else { continue };
                // What it generates knows nothing of places between bytes.
                let plain = [(r"\b", ""), (r"\B", ""), ("(^", "("), ("|^", "|"), (")^", ")")]
                    .iter()
                    .fold(source.clone(), |source, (what, with)| source.replace(what, with));
                let Ok(lines) = proptest::string::bytes_regex(&format!("(?-u){plain}")) else { continue };
                patterns += 1;
                for at in 0..200 {
                    let middle = lines.new_tree(&mut runner).expect("a line").current();
                    let (before, behind) = [("", ""), (" ", " "), ("x", "("), ("_", "A")][at % 4];
                    let line = [before.as_bytes(), &middle, behind.as_bytes()].concat();
                    if line.contains(&b'\n') || !pattern.is_match(&line) {
                        continue;
                    }
                    matches += 1;
                    let lower = line.to_ascii_lowercase();
                    let fits = keywords.iter().zip(beside).any(|(word, beside)| {
                        let keyword = Keyword { number: 0, len: word.len(), whole: true, beside };
                        let word = word.to_ascii_lowercase();
                        memchr::memmem::find_iter(&lower, word.as_bytes()).any(|at| keyword.fits(&line, at))
                    });
                    assert!(fits, "{}: {:?}", rule.id, String::from_utf8_lossy(&line));
                }
            }
        }
        assert!(patterns > 40 && matches > 4000, "{patterns} patterns, {matches} matches");
    }
}
