//! Reads a commit's header from its raw bytes.
//!
//! Not through libgit2's commit type, for two reasons: in a shallow clone libgit2 hides the parents
//! of a grafted commit, which the header still names; and a name, a date or a message that is not
//! what it should be (other encodings, a date beyond 64 bits, no time zone) must give a record, not
//! an error. Nothing here panics on any input.

use crate::facts::{Person, SignatureKind};

/// A commit's header and message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Commit {
    /// Tree id in hex.
    pub(super) tree: String,
    /// Parent ids in hex, in order.
    pub(super) parents: Vec<String>,
    pub(super) author: Person,
    /// Seconds since 1970; 0 where the header has no date that fits, as Git shows it.
    pub(super) author_time: i64,
    pub(super) committer: Person,
    pub(super) commit_time: i64,
    pub(super) signature: Option<SignatureKind>,
    pub(super) message: String,
}

/// Takes a commit object's bytes apart. Unknown headers are skipped; the first of a repeated one counts.
pub(super) fn parse(raw: &[u8]) -> Commit {
    let (headers, body) = split(raw);
    let latin1 = headers.clone().find_map(|(name, value)| (name == b"encoding").then(|| is_latin1(value)));
    let decode = |bytes: &[u8]| decode(bytes, latin1.unwrap_or(false));

    let mut commit = Commit { message: decode(body), ..Commit::default() };
    let (mut seen_author, mut seen_committer) = (false, false);
    for (name, value) in headers {
        match name {
            b"tree" if commit.tree.is_empty() => commit.tree = hex(value),
            b"parent" => commit.parents.push(hex(value)),
            b"author" if !seen_author => {
                seen_author = true;
                (commit.author, commit.author_time) = person(value, decode);
            }
            b"committer" if !seen_committer => {
                seen_committer = true;
                (commit.committer, commit.commit_time) = person(value, decode);
            }
            b"gpgsig" | b"gpgsig-sha256" if commit.signature.is_none() => commit.signature = signature(value),
            _ => {}
        }
    }
    commit
}

/// The committer's time alone, for walks that need nothing else.
pub(super) fn commit_time(raw: &[u8]) -> i64 {
    split(raw)
        .0
        .find_map(|(name, value)| (name == b"committer").then(|| person(value, |_| String::new()).1))
        .unwrap_or(0)
}

/// The parents' ids in hex alone, in order.
pub(super) fn parents(raw: &[u8]) -> impl Iterator<Item = &str> {
    let parents = split(raw).0.filter(|(name, _)| *name == b"parent");
    parents.filter_map(|(_, value)| std::str::from_utf8(value).ok())
}

/// The header's (name, first line of the value) pairs and the message.
fn split(raw: &[u8]) -> (impl Iterator<Item = (&[u8], &[u8])> + Clone, &[u8]) {
    let (head, body) = match memchr::memmem::find(raw, b"\n\n") {
        Some(at) => (&raw[..at], &raw[at + 2..]),
        None => (raw, &raw[raw.len()..]),
    };
    // A line that begins with a space continues the one before (signatures, merged tags).
    let headers =
        head.split(|&byte| byte == b'\n').filter(|line| !line.starts_with(b" ")).filter_map(|line| {
            let space = memchr::memchr(b' ', line)?;
            Some((&line[..space], &line[space + 1..]))
        });
    (headers, body)
}

fn hex(value: &[u8]) -> String {
    String::from_utf8_lossy(value.trim_ascii()).to_ascii_lowercase()
}

/// `Name <mail> seconds zone`; whatever is missing stays empty or 0.
fn person(line: &[u8], decode: impl Fn(&[u8]) -> String) -> (Person, i64) {
    let open = memchr::memchr(b'<', line).unwrap_or(line.len());
    let close = memchr::memrchr(b'>', line).filter(|&close| close > open).unwrap_or(line.len());
    let name = decode(line[..open].trim_ascii());
    let email = line.get(open + 1..close).map_or_else(String::new, |mail| decode(mail.trim_ascii()));
    let date = line.get(close + 1..).unwrap_or_default().trim_ascii();
    let seconds = date.split(|&byte| byte == b' ').next().unwrap_or_default();
    let seconds = std::str::from_utf8(seconds).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    (Person { name, email }, seconds)
}

fn signature(first_line: &[u8]) -> Option<SignatureKind> {
    match first_line.trim_ascii() {
        b"-----BEGIN PGP SIGNATURE-----" | b"-----BEGIN PGP MESSAGE-----" => Some(SignatureKind::Openpgp),
        b"-----BEGIN SSH SIGNATURE-----" => Some(SignatureKind::Ssh),
        b"-----BEGIN SIGNED MESSAGE-----" => Some(SignatureKind::X509),
        _ => None,
    }
}

fn is_latin1(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] =
        [b"iso-8859-1", b"iso8859-1", b"iso_8859-1", b"latin1", b"latin-1", b"windows-1252"];
    let name = name.trim_ascii();
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// UTF-8 unless the header says Latin-1: Git itself writes UTF-8 without saying so.
fn decode(bytes: &[u8], latin1: bool) -> String {
    if latin1 {
        bytes.iter().copied().map(char::from).collect()
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn with(lines: &str) -> Commit {
        parse(format!("tree {TREE}\n{lines}\n\nsubject\n\nbody\n").as_bytes())
    }

    #[test]
    fn reads_every_header() {
        let commit = with(
            "parent aa\nparent BB\nauthor A U Thor <a@example.org> 1700000000 +0100\n\
             committer C <c@example.org> 1700000060 -0500\n\
             gpgsig -----BEGIN SSH SIGNATURE-----\n committer Not Me <x@example.org> 1 +0000\n -----END SSH SIGNATURE-----\n\
             mergetag object cc\n type commit\n tagger T <t@example.org> 5 +0000",
        );
        assert_eq!(commit.tree, TREE);
        assert_eq!(commit.parents, ["aa", "bb"]);
        assert_eq!(commit.author, Person { name: "A U Thor".into(), email: "a@example.org".into() });
        assert_eq!((commit.author_time, commit.commit_time), (1_700_000_000, 1_700_000_060));
        assert_eq!(commit.committer.name, "C");
        assert_eq!(commit.signature, Some(SignatureKind::Ssh));
        assert_eq!(commit.message, "subject\n\nbody\n");
    }

    #[test]
    fn signatures_by_their_first_line() {
        for (line, kind) in [
            ("-----BEGIN PGP SIGNATURE-----", Some(SignatureKind::Openpgp)),
            ("-----BEGIN SIGNED MESSAGE-----", Some(SignatureKind::X509)),
            ("something else", None),
        ] {
            assert_eq!(with(&format!("gpgsig {line}")).signature, kind);
            assert_eq!(with(&format!("gpgsig-sha256 {line}")).signature, kind);
        }
    }

    #[test]
    fn strange_people_and_dates() {
        let time = |rest: &str| with(&format!("author {rest}")).author_time;
        assert_eq!(time("A <a@b> 99999999999999999999999 +0000"), 0);
        assert_eq!(time("A <a@b> 12"), 12);
        assert_eq!(time("A <a@b>"), 0);
        assert_eq!(time("A <a@b> -5 +0000"), -5);
        assert_eq!(time("nobody"), 0);
        let odd = with("author A <b>c <a@b> 7 +0000").author;
        assert_eq!((odd.name.as_str(), odd.email.as_str()), ("A", "b>c <a@b"));
        assert_eq!(parse(b""), Commit::default());
        assert_eq!(parse(b"\n\n").message, "");
    }

    #[test]
    fn other_encodings() {
        let raw = |encoding: &str, text: &[u8]| {
            let mut raw = format!("tree {TREE}\nauthor ").into_bytes();
            raw.extend_from_slice(text);
            raw.extend_from_slice(b" <a@b> 1 +0000\n");
            raw.extend_from_slice(encoding.as_bytes());
            raw.extend_from_slice(b"\n");
            raw.extend_from_slice(text);
            raw
        };
        let latin = parse(&raw("encoding ISO-8859-1\n", b"caf\xe9"));
        assert_eq!((latin.message.as_str(), latin.author.name.as_str()), ("caf\u{e9}", "caf\u{e9}"));
        assert_eq!(parse(&raw("", "café".as_bytes())).message, "café");
        assert_eq!(parse(&raw("", b"caf\xe9")).message, "caf\u{fffd}");
        assert_eq!(parse(&raw("encoding EUC-JP\n", b"caf\xe9")).message, "caf\u{fffd}");
    }

    #[test]
    fn time_alone() {
        let raw = format!("tree {TREE}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 77 +0000\n\nx");
        assert_eq!(commit_time(raw.as_bytes()), 77);
        assert_eq!(commit_time(b"x"), 0);
    }
}
