//! Takes identifiers and secrets out of free text: messages, paths, branches, remotes.
//!
//! Only what is labelled (`MRN: …`) or of an unmistakable format (a key with its prefix, a social
//! security number in its dashes) is replaced, by `[redacted:KIND]`. A checksum alone redacts nothing: one
//! ten-digit number in ten that begins with 1 or 2 passes for an NPI, and most are time stamps. Commit ids
//! stay.
//!
//! Nothing is compiled that the text does not ask for: one pass over the text looks for the anchors of all
//! patterns, and only patterns whose anchor is there are compiled, once in a process.

use std::borrow::Cow;
use std::sync::OnceLock;

use regex::{Captures, Regex, RegexBuilder};

use crate::literals::{Literals, literals};

/// One thing to take out.
struct Pattern {
    /// `KIND` in `[redacted:KIND]`.
    kind: &'static str,
    /// Literals, in lower case, one of which is in every match; none means what
    /// [`has_unlabelled`] finds.
    anchors: &'static [&'static str],
    /// The expression. A group named `keep` stays in front of the replacement.
    expression: &'static str,
    /// Drops a candidate; never adds one.
    accept: fn(&str) -> bool,
}

fn any(_: &str) -> bool {
    true
}

const PATTERNS: &[Pattern] = &[
    Pattern {
        kind: "private-key",
        anchors: &["private key"],
        expression: r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
        accept: any,
    },
    Pattern {
        kind: "token",
        anchors: &["eyj"],
        expression: r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
        accept: any,
    },
    Pattern {
        kind: "token",
        anchors: &[
            "ghp_",
            "gho_",
            "ghu_",
            "ghs_",
            "ghr_",
            "github_pat_",
            "glpat-",
            "npm_",
            "xoxb-",
            "xoxa-",
            "xoxp-",
            "xoxr-",
            "xoxs-",
            "hf_",
            "dckr_pat_",
            "pypi-",
        ],
        expression: r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|npm_[A-Za-z0-9]{30,}|xox[abprs]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{30,}|dckr_pat_[A-Za-z0-9_-]{20,}|pypi-[A-Za-z0-9_-]{50,})",
        accept: any,
    },
    Pattern {
        kind: "key",
        anchors: &["akia", "asia", "aiza", "sk_live_", "rk_live_", "sk-ant-", "sk-proj-", "sg."],
        expression: r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}\b|AIza[0-9A-Za-z_-]{35}|[sr]k_live_[0-9A-Za-z]{16,}|sk-(?:ant|proj)-[0-9A-Za-z_-]{20,}|SG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,})",
        accept: any,
    },
    Pattern {
        kind: "key",
        anchors: &["accountkey", "sharedaccesskey", "sharedaccesssignature", "sig="],
        expression: r"(?i)(?P<keep>\b(?:AccountKey|SharedAccessKey|SharedAccessSignature|sig)\s*=\s*)[A-Za-z0-9+/%=_-]{20,}",
        accept: any,
    },
    Pattern {
        kind: "token",
        anchors: &["bearer ", "basic "],
        expression: r"(?i)(?P<keep>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/-]{20,}=*",
        accept: has_digit_and_letter,
    },
    Pattern {
        kind: "password",
        anchors: &["://"],
        expression: r"(?P<keep>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/@:]*:[^\s/@]+(?:@)",
        accept: any,
    },
    Pattern {
        kind: "password",
        anchors: &["password", "passwd", "passphrase", "pwd"],
        expression: r#"(?i)(?P<keep>(?:password|passwd|passphrase|pwd)["']?\s*(?:[:=]|is\b)\s*)(?:"[^"\n]{4,}"|'[^'\n]{4,}'|[^\s"',;]{6,})"#,
        accept: looks_like_a_secret,
    },
    Pattern {
        kind: "secret",
        anchors: &[
            "secret",
            "token",
            "api_key",
            "apikey",
            "api-key",
            "api key",
            "access_key",
            "access-key",
            "accesskey",
            "account_key",
            "account-key",
        ],
        expression: r#"(?i)(?P<keep>(?:secret|token|api[_ -]?key|access[_-]?key|account[_-]key)["']?\s*[:=]\s*)(?:"[^"\n]{8,}"|'[^'\n]{8,}'|[^\s"',;]{8,})"#,
        accept: looks_like_a_secret,
    },
    Pattern {
        kind: "ssn",
        anchors: &["ssn", "social security"],
        expression: r"(?i)(?P<keep>\b(?:ssn|social[ _-]?security(?:[ _-]?(?:number|no\.?|#))?)\W{0,4}(?:is\W{0,2})?)\d{3}[- .]?\d{2}[- .]?\d{4}\b",
        accept: any,
    },
    Pattern { kind: "ssn", anchors: &[], expression: r"\b\d{3}-\d{2}-\d{4}\b", accept: possible_ssn },
    Pattern {
        kind: "npi",
        anchors: &["npi", "provider identifier"],
        expression: r"(?i)(?P<keep>(?:\bnpi|provider identifier)(?:[ _-]?(?:number|no\.?|#))?\W{0,4}(?:is\W{0,2})?)[12]\d{9}\b",
        accept: any,
    },
    Pattern {
        kind: "mbi",
        anchors: &["mbi", "medicare"],
        expression: r"(?i)(?P<keep>\b(?:mbi|medicare[a-z _-]{0,24})\W{0,4}(?:is\W{0,2})?)[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d{2}\b",
        accept: any,
    },
    Pattern {
        kind: "mbi",
        anchors: &[],
        expression: r"\b[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-[AC-HJKMNP-RT-Y]{2}\d{2}\b",
        accept: any,
    },
    Pattern {
        kind: "mrn",
        anchors: &[
            "mrn",
            "medical record",
            "patient id",
            "patient_id",
            "patientid",
            "patient-id",
            "member id",
            "member_id",
        ],
        expression: r"(?i)(?P<keep>(?:\bmrn|\bmedical record(?: (?:number|no\.?|#))?|\bpatient[ _-]?id|\bmember[ _-]?id)\W{0,4}(?:is\W{0,2})?)[A-Z]{0,4}-?\d{5,12}\b",
        accept: any,
    },
    Pattern {
        kind: "dea",
        anchors: &["dea"],
        expression: r"(?i)(?P<keep>\bdea(?:[ _-]?(?:number|no\.?|#))?\W{0,4}(?:is\W{0,2})?)[A-Z][A-Z9]\d{7}\b",
        accept: any,
    },
    Pattern {
        kind: "date-of-birth",
        anchors: &["dob", "date of birth", "birth date", "birthdate", "born"],
        expression: r"(?i)(?P<keep>\b(?:dob|date of birth|birth ?date|born(?: on)?)\W{0,4}(?:is\W{0,2})?)(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|(?:19|20)\d{6})\b",
        accept: any,
    },
    Pattern {
        kind: "patient-name",
        anchors: &["patient name", "patient_name", "patientname", "patient-name"],
        expression: r"(?P<keep>(?i:\bpatient[ _-]?name)\W{0,4})[A-Z][A-Za-z'-]+,? [A-Z][A-Za-z'-]+",
        accept: any,
    },
    Pattern {
        kind: "card",
        anchors: &["card", "visa", "mastercard", "amex"],
        expression: r"(?i)(?P<keep>\b(?:credit |debit )?(?:card|visa|mastercard|amex)(?:[ _-]?(?:number|no\.?|#))?\W{0,4}(?:is\W{0,2})?)\d(?:[ -]?\d){12,18}\b",
        accept: any,
    },
    Pattern {
        kind: "card",
        anchors: &[],
        expression: r"\b[3-6]\d{3}([ -])\d{4}([ -])\d{4}([ -])\d{4}\b",
        accept: luhn,
    },
    Pattern {
        kind: "phone",
        anchors: &["phone", "mobile", "cell", "fax"],
        expression: r"(?i)(?P<keep>\b(?:tele)?(?:phone|mobile|cell|fax)(?:[ _-]?(?:number|no\.?|#))?\W{0,4}(?:is\W{0,2})?)(?:\+?1[ .-]?)?\(?[2-9]\d{2}\)?[ .-]?\d{3}[ .-]?\d{4}\b",
        accept: any,
    },
];

fn has_digit_and_letter(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit()) && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// "password: fix the reset flow" is prose; a value in quotes, or with digits or symbols among its letters,
/// is not. What is already redacted, a placeholder or a commit id is left alone.
fn looks_like_a_secret(value: &str) -> bool {
    if value.contains("[redacted:") || value.starts_with(['$', '<', '{', '%']) {
        return false;
    }
    let bare = value.trim_matches(['"', '\'', '.', ')']);
    if (bare.len() == 40 || bare.len() == 64) && bare.bytes().all(|b| b.is_ascii_hexdigit()) {
        return false;
    }
    let quoted = value.starts_with(['"', '\'']);
    let symbol = bare
        .bytes()
        .any(|b| matches!(b, b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'&' | b'*' | b'+' | b'='));
    (quoted && !bare.contains(' ')) || has_digit_and_letter(bare) || (symbol && bare.len() >= 8)
}

/// Areas 000, 666 and 900 to 999, group 00 and serial 0000 were never issued (SSA, POMS RM 10201.035).
fn possible_ssn(text: &str) -> bool {
    let (area, group, serial) = (&text[..3], &text[4..6], &text[7..]);
    area != "000" && area != "666" && !area.starts_with('9') && group != "00" && serial != "0000"
}

/// ISO/IEC 7812-1, annex B.
fn luhn(text: &str) -> bool {
    let digits = text.bytes().rev().filter(u8::is_ascii_digit).map(|b| u32::from(b - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => digit,
            (_, double) => double / 10 + double % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// How many anchors all patterns have together.
const ANCHORS: usize = {
    let (mut count, mut index) = (0, 0);
    while index < PATTERNS.len() {
        count += PATTERNS[index].anchors.len();
        index += 1;
    }
    count
};

/// All anchors, one pattern after the other.
static WORDS: [Cow<'static, str>; ANCHORS] = {
    let mut words = [const { Cow::Borrowed("") }; ANCHORS];
    let mut place = 0;
    while place < ANCHORS {
        let (index, word) = place_of(place);
        // A destructor cannot run here, and there is nothing to free.
        std::mem::forget(std::mem::replace(&mut words[place], Cow::Borrowed(PATTERNS[index].anchors[word])));
        place += 1;
    }
    words
};

static LITERALS: Literals = literals!(WORDS);

/// The pattern that an anchor belongs to, and its place among the anchors of that.
const fn place_of(mut anchor: usize) -> (usize, usize) {
    let mut index = 0;
    while anchor >= PATTERNS[index].anchors.len() {
        anchor -= PATTERNS[index].anchors.len();
        index += 1;
    }
    (index, anchor)
}

fn compiled(index: usize) -> Option<&'static Regex> {
    static COMPILED: [OnceLock<Option<Regex>>; PATTERNS.len()] = [const { OnceLock::new() }; PATTERNS.len()];
    // The classes are ASCII by construction; Unicode tables would make compiling a hundred times dearer.
    COMPILED[index]
        .get_or_init(|| {
            let expression =
                [(r"\d", "[0-9]"), (r"\b", r"(?-u:\b)"), (r"\W", "[^A-Za-z0-9_]"), (r"\s", r"[ \t\r\n]")]
                    .iter()
                    .fold(PATTERNS[index].expression.to_owned(), |text, (class, ascii)| {
                        text.replace(class, ascii)
                    });
            RegexBuilder::new(&expression).size_limit(1 << 20).build().ok()
        })
        .as_ref()
}

/// Whether the text can hold an identifier without a label: `ddd-dd-`, `dddd dddd` (or with a dash), or a
/// digit with three characters and a dash after it, the beginning of a Medicare number.
fn has_unlabelled(text: &[u8]) -> bool {
    let digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    memchr::memchr2_iter(b'-', b' ', text).any(|at| {
        if at < 3 || !digit(at - 1) || !text.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) {
            return false;
        }
        let dash = text[at] == b'-';
        let ssn = dash
            && digit(at - 2)
            && digit(at - 3)
            && digit(at + 1)
            && digit(at + 2)
            && text.get(at + 3) == Some(&b'-');
        let card = at >= 4 && (1..=4).all(|back| digit(at - back)) && (1..=4).all(|on| digit(at + on));
        let mbi = dash
            && at >= 4
            && digit(at - 4)
            && text[at - 3].is_ascii_uppercase()
            && text[at + 1].is_ascii_uppercase();
        ssn || card || mbi
    })
}

/// Replaces identifiers and secrets; borrows where there is none.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut wanted = [false; PATTERNS.len()];
    LITERALS.search(text.as_bytes(), |number, _| wanted[place_of(usize::from(number)).0] = true);
    if has_unlabelled(text.as_bytes()) {
        for (index, pattern) in PATTERNS.iter().enumerate() {
            wanted[index] |= pattern.anchors.is_empty();
        }
    }
    let mut out = Cow::Borrowed(text);
    for (index, pattern) in PATTERNS.iter().enumerate().filter(|(index, _)| wanted[*index]) {
        let Some(regex) = compiled(index) else { continue };
        if let Cow::Owned(replaced) =
            regex.replace_all(&out, |found: &Captures<'_>| replacement(pattern, found))
        {
            out = Cow::Owned(replaced);
        }
    }
    out
}

fn replacement(pattern: &Pattern, found: &Captures<'_>) -> String {
    let whole = &found[0];
    let keep = found.name("keep").map_or("", |group| group.as_str());
    let value = &whole[keep.len()..];
    if (pattern.accept)(value) { format!("{keep}[redacted:{}]", pattern.kind) } else { whole.to_owned() }
}

/// Replaces the people in trailers (`Signed-off-by: Name <mail>`), for the privacy setting `hash`.
#[must_use]
pub fn people(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for line in message.split_inclusive('\n') {
        let person = line
            .split_once(':')
            .filter(|(key, _)| key.len() < 40 && key.to_ascii_lowercase().ends_with("-by"));
        match person {
            Some((key, _)) => {
                out.push_str(key);
                out.push_str(": [redacted:person]");
                out.push_str(if line.ends_with('\n') { "\n" } else { "" });
            }
            None => out.push_str(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Built here so that no identifier-shaped literal stands in the source.
    fn digits(parts: &[&str], separator: &str) -> String {
        parts.join(separator)
    }

    #[test]
    fn every_pattern_compiles() {
        for (index, pattern) in PATTERNS.iter().enumerate() {
            assert!(compiled(index).is_some(), "{}", pattern.expression);
        }
    }

    #[test]
    fn labelled_and_unmistakable_values_go() {
        let ssn = digits(&["219", "09", "9998"], "-");
        let cases = [
            (format!("fix for {ssn} in import"), "fix for [redacted:ssn] in import"),
            (format!("SSN: {}", digits(&["219", "09", "9998"], "")), "SSN: [redacted:ssn]"),
            (format!("patient MRN {} moved", "00482915"), "patient MRN [redacted:mrn] moved"),
            (format!("NPI {}{}", "123456", "7893"), "NPI [redacted:npi]"),
            (format!("medicare 1EG4{}TE5{}MK73", "-", "-"), "medicare [redacted:mbi]"),
            ("dob 1971-03-14 wrong".into(), "dob [redacted:date-of-birth] wrong"),
            (format!("AKIA{}", "IOSFODNN7EXAMPLE"), "[redacted:key]"),
            (format!("ghp_{}", "a1".repeat(18)), "[redacted:token]"),
            ("https://bot:hunter2@host/x".into(), "https://[redacted:password]host/x"),
            ("password=hunter22 in config".into(), "password=[redacted:password] in config"),
            (format!("card {}", digits(&["4111", "1111", "1111", "1111"], " ")), "card [redacted:card]"),
            ("Authorization: Bearer abcdef0123456789abcdef".into(), "Authorization: Bearer [redacted:token]"),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(&text), expected);
        }
    }

    #[test]
    fn a_private_key_goes_whole_even_when_it_is_cut() {
        let key = format!("-----BEGIN RSA {} KEY-----\nMIIE\nabc", "PRIVATE");
        assert_eq!(redact(&key), "[redacted:private-key]");
        let whole = format!("a {key}\n-----END RSA {} KEY----- b", "PRIVATE");
        assert_eq!(redact(&whole), "a [redacted:private-key] b");
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            "Revert 95de8fc93f61fc0679768d06381ff57879c4da67",
            "timestamp 1732190400, build 1234567893",
            "bump to 10.0.2 from 9.10.11-beta.1",
            "password: fix the reset flow",
            "token: refresh handling of the session",
            "V20240131120000__create_patient_table.sql",
            "2024-01-31 10:00:00 -0500",
            "Fix SSN validation and MRN lookup",
            "900-12-3456 was never issued",
            "src/auth/token_service.rs",
            "secret: 95de8fc93f61fc0679768d06381ff57879c4da67",
        ] {
            assert!(
                matches!(redact(text), Cow::Borrowed(_)) || redact(text) == text,
                "{text} -> {}",
                redact(text)
            );
        }
    }

    #[test]
    fn people_in_trailers_can_go_too() {
        assert_eq!(
            people("Fix\n\nSigned-off-by: A B <a@b.c>\nRefs: 12\n"),
            "Fix\n\nSigned-off-by: [redacted:person]\nRefs: 12\n"
        );
    }

    /// An identifier or secret in a text as people write it; the value must not survive.
    fn labelled() -> impl Strategy<Value = (String, String)> {
        let label = |words: &'static [&'static str]| prop::sample::select(words);
        let between = || prop::sample::select(&[": ", " ", "=", " = ", " #", ":"][..]);
        let mbi = "[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9][0-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9][0-9][AC-HJKMNP-RT-Y]{2}[0-9]{2}";
        let said =
            |(label, between, value): (&str, &str, String)| (format!("{label}{between}{value}"), value);
        prop_oneof![
            (label(&["SSN", "ssn", "Social Security Number"]), between(), "[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}")
                .prop_map(said),
            (label(&["SSN", "social security"]), between(), "[0-9]{9}").prop_map(said),
            (label(&["NPI", "npi number"]), between(), "[12][0-9]{9}").prop_map(said),
            (
                label(&["MRN", "Medical Record Number", "patient_id", "member id"]),
                between(),
                "[A-Z]{0,3}[0-9]{6,10}"
            )
                .prop_map(said),
            (label(&["MBI", "Medicare number"]), between(), mbi).prop_map(said),
            (
                label(&["token", "api_key", "secret"]),
                label(&["=", ": "]),
                "[a-z]{4}[0-9]{4}[A-Za-z0-9]{8,30}"
            )
                .prop_map(said),
            (label(&["password", "pwd"]), label(&["=", ": "]), "[a-z]{4}[0-9]{3}[A-Za-z]{3,9}")
                .prop_map(said),
            ("ghp_[A-Za-z0-9]{36}").prop_map(|value| (value.clone(), value)),
            ("AKIA[A-Z0-9]{16}").prop_map(|value| (value.clone(), value)),
            ("AccountKey=[A-Za-z0-9]{60}")
                .prop_map(|value| (value.clone(), value["AccountKey=".len()..].to_owned())),
        ]
    }

    /// What looks like an identifier to a checksum and is none.
    fn harmless() -> impl Strategy<Value = String> {
        prop_oneof![
            "1[0-9]{9}",
            "1[0-9]{12}",
            "[0-9a-f]{40}",
            "[0-9a-f]{64}",
            "v?[0-9]{1,2}\\.[0-9]{1,3}\\.[0-9]{1,4}(-rc\\.[0-9])?",
            "V20[0-9]{12}__[a-z]{3,9}_[a-z]{3,9}\\.sql",
            "20[0-9]{2}-(0[1-9]|1[0-2])-[0-2][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z",
        ]
    }

    proptest! {
        #[test]
        fn no_labelled_identifier_survives(
            (said, value) in labelled(),
            before in "([a-z]{2,8} ){0,4}",
            after in "( [a-z]{2,8}){0,4}",
        ) {
            let text = format!("{before}{said}{after}\n");
            let clean = redact(&text);
            prop_assert!(!clean.contains(&value), "{text:?} -> {clean:?}");
            let around = clean.starts_with(&before) && clean.trim_end().ends_with(&after);
            prop_assert!(around, "{text:?} -> {clean:?}");
            prop_assert_eq!(redact(&clean), clean.as_ref(), "once is enough");
        }

        #[test]
        fn time_stamps_versions_commits_and_migrations_survive(
            value in harmless(),
            before in prop::sample::select(&["", "Revert ", "build ", "at ", "bump to "][..]),
        ) {
            let text = format!("{before}{value}");
            prop_assert_eq!(redact(&text), text.as_str());
        }
    }
}
