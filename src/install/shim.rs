//! The hook scripts of `hooks/`, embedded: filled in, and recognised again.
//!
//! A script of ours carries, in its second line, the digest of everything below that line. So a later
//! version recognises what an earlier one wrote, and notices what somebody changed since: that is
//! then theirs, and stays.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::git::{to_bytes, to_path};
use crate::hex::hex;

/// The hooks that capture commits (`git-facts.md`, "Which hooks fire").
pub const HOOKS: [&str; 5] = ["post-commit", "post-merge", "post-rewrite", "post-applypatch", "pre-push"];

/// Git calls it in the repository that a push arrives in: merges made by a forge, and commits of people
/// without the agent, are seen there only.
pub const SERVER_HOOK: &str = "post-receive";

/// [`HOOKS`] and [`SERVER_HOOK`]: what a bare repository gets.
pub const ALL_HOOKS: [&str; 6] =
    ["post-commit", "post-merge", "post-rewrite", "post-applypatch", "pre-push", SERVER_HOOK];

/// The other hooks that Git looks for in the hooks folder, as of Git 2.55. A global `core.hooksPath`
/// hides these in every repository, so each is handed on.
pub(super) const OTHER_HOOKS: [&str; 22] = [
    "applypatch-msg",
    "commit-msg",
    "p4-changelist",
    "p4-post-changelist",
    "p4-pre-submit",
    "p4-prepare-changelist",
    "post-checkout",
    "post-index-change",
    "post-receive",
    "post-update",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-rebase",
    "pre-receive",
    "prepare-commit-msg",
    "proc-receive",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
    "update",
];

const MARK: &[u8] = b"#!/bin/sh\n# gitops-agent hook ";
const AGENT_LINE: &str = "\nagent=''\n";
const FIRST_LINE: &str = "\nfirst=''\n";
const PASS_ON: &str = include_str!("../../hooks/pass-on");
const FIND_OWN_HOOK: &str = include_str!("../../hooks/find-own-hook");

/// A longer file is nobody's shim; ours have about 2 KiB.
pub(super) const LONGEST: u64 = 64 * 1024;

/// Which hook a script calls beside ours: after it, or before it where both want the same input.
#[derive(Clone, Copy, Debug)]
pub(super) enum First<'a> {
    /// None.
    Nothing,
    /// The one of the same name in the folder of this name, beside the script's own.
    Beside(&'a [u8]),
    /// The same, but not where a manager has renamed the script to `NAME.legacy` and calls it: the hook is that
    /// manager's from an earlier installation, and would complain about being called by itself.
    BesideUnlessLegacy(&'a [u8]),
    /// The repository's own.
    Own,
    /// The one of the same name in this folder: absolute, or relative to where hooks start.
    In(&'a Path),
}

/// What a script of ours says about itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shim {
    /// It is as an installer wrote it, or as it lies in `hooks/`.
    pub(super) intact: bool,
    /// The program it calls; empty where only PATH is asked.
    pub(super) agent: PathBuf,
}

/// The script for one of [`ALL_HOOKS`].
pub(super) fn hook(name: &str, exe: &Path, first: First<'_>) -> Vec<u8> {
    let mut value = first_value(first, name);
    if matches!(first, First::Own | First::In(_)) {
        // Installed in the repository too: once is enough. `-ef` came into POSIX in 2024 but has long been
        // in every shell that serves as /bin/sh; without it the agent runs twice, which does no harm.
        value.extend_from_slice(b"[ \"$first\" -ef \"$agent\" ] 2>/dev/null && first=''\n");
    }
    let text = replace_line(template(name).as_bytes(), FIRST_LINE, &value);
    let agent = [b"agent=" as &[u8], &quote(&to_bytes(exe)), b"\n"].concat();
    seal(&replace_line(&text, AGENT_LINE, &agent))
}

/// The script for one of [`OTHER_HOOKS`].
pub(super) fn pass_on(first: First<'_>) -> Vec<u8> {
    seal(&replace_line(PASS_ON.as_bytes(), FIRST_LINE, &first_value(first, "${0##*/}")))
}

/// Reads a script; `None` where it is not ours.
pub(super) fn recognise(text: &[u8]) -> Option<Shim> {
    let rest = text.strip_prefix(MARK)?;
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let (digest, body) = (&rest[..end], &rest[end + 1..]);
    let as_shipped = ALL_HOOKS.iter().map(|name| template(name)).any(|shipped| shipped.as_bytes() == text);
    let agent = text
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"agent="))
        .map(|value| to_path(&unquote(value)))
        .unwrap_or_default();
    Some(Shim { intact: as_shipped || digest == digest_of(body).as_bytes(), agent })
}

/// `'…'` for a POSIX shell.
pub(super) fn quote(bytes: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in bytes {
        if byte == b'\'' {
            quoted.extend_from_slice(b"'\\''");
        } else {
            quoted.push(byte);
        }
    }
    quoted.push(b'\'');
    quoted
}

/// What [`quote`] made of it at the beginning of `bytes`, undone.
pub(super) fn quoted_prefix(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes.strip_prefix(b"'")?;
    let mut inner = Vec::new();
    loop {
        let end = rest.iter().position(|&byte| byte == b'\'')?;
        inner.extend_from_slice(&rest[..end]);
        match rest[end + 1..].strip_prefix(b"\\''") {
            Some(more) => rest = more,
            None => return Some(inner),
        }
        inner.push(b'\'');
    }
}

/// The inverse of [`quote`]; anything else comes back as it is.
fn unquote(bytes: &[u8]) -> Vec<u8> {
    let Some(inner) = bytes.strip_prefix(b"'").and_then(|rest| rest.strip_suffix(b"'")) else {
        return bytes.to_vec();
    };
    replace_all(inner, b"'\\''", b"'")
}

fn template(name: &str) -> &'static str {
    match name {
        "post-merge" => include_str!("../../hooks/post-merge"),
        "post-rewrite" => include_str!("../../hooks/post-rewrite"),
        "post-applypatch" => include_str!("../../hooks/post-applypatch"),
        "pre-push" => include_str!("../../hooks/pre-push"),
        SERVER_HOOK => include_str!("../../hooks/post-receive"),
        _ => include_str!("../../hooks/post-commit"),
    }
}

/// The shell lines that set `first`; `name` is the hook's, as shell text.
fn first_value(first: First<'_>, name: &str) -> Vec<u8> {
    match first {
        First::Nothing => b"first=''\n".to_vec(),
        First::Beside(folder) => {
            [b"first=${0%/*}/../" as &[u8], &quote(folder), b"/", name.as_bytes(), b"\n"].concat()
        }
        First::BesideUnlessLegacy(folder) => {
            [&first_value(First::Beside(folder), name)[..], b"[ \"${0%.legacy}\" = \"$0\" ] || first=''\n"]
                .concat()
        }
        First::Own => FIND_OWN_HOOK.as_bytes().to_vec(),
        First::In(folder) => {
            [b"first=" as &[u8], &quote(&to_bytes(folder)), b"/", name.as_bytes(), b"\n"].concat()
        }
    }
}

/// Replaces the one line `line` (with the newlines around it) by `with`.
fn replace_line(text: &[u8], line: &str, with: &[u8]) -> Vec<u8> {
    replace_all(text, line.as_bytes(), &[b"\n", with].concat())
}

fn replace_all(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + to.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Puts the digest of the rest into the second line.
fn seal(text: &[u8]) -> Vec<u8> {
    let body = text.splitn(3, |&byte| byte == b'\n').nth(2).unwrap_or_default();
    [MARK, digest_of(body).as_bytes(), b"\n", body].concat()
}

/// 64 bits of SHA-256: this guards against accidents, not against anybody.
fn digest_of(body: &[u8]) -> String {
    hex(&Sha256::digest(body)[..8])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn every_script_has_its_marked_places_once() {
        for name in ALL_HOOKS {
            let text = template(name);
            assert_eq!(text.matches(AGENT_LINE).count(), 1, "{name}");
            assert_eq!(text.matches(FIRST_LINE).count(), 1, "{name}");
            assert!(text.contains(&format!("hook {name} \"$@\"")), "{name} must name itself");
            assert!(text.as_bytes().starts_with(MARK), "{name}");
        }
        assert_eq!(PASS_ON.matches(FIRST_LINE).count(), 1);
        assert!(PASS_ON.as_bytes().starts_with(MARK));
    }

    #[test]
    fn what_was_written_is_recognised_and_a_change_is_noticed() {
        let exe = Path::new("/opt/o'brien & co/gitops-agent");
        for first in [
            First::Nothing,
            First::Beside(b"hooks.x"),
            First::BesideUnlessLegacy(b"y"),
            First::Own,
            First::In(Path::new("a b")),
        ] {
            for name in ALL_HOOKS {
                let text = hook(name, exe, first);
                assert_eq!(recognise(&text).unwrap(), Shim { intact: true, agent: exe.to_owned() });
                let changed = [&text[..], b"echo mine\n"].concat();
                assert!(!recognise(&changed).unwrap().intact);
            }
            assert!(recognise(&pass_on(first)).unwrap().intact);
        }
    }

    #[test]
    fn a_script_copied_by_hand_counts_as_ours() {
        let shipped = recognise(template("pre-push").as_bytes()).unwrap();
        assert_eq!(shipped, Shim { intact: true, agent: PathBuf::new() });
    }

    #[test]
    fn other_scripts_are_not_ours() {
        for text in [&b""[..], b"#!/bin/sh\n", b"#!/bin/sh\n# gitops-agent hook", b"\xff\0", b"#!/bin/sh\r\n"]
        {
            assert_eq!(recognise(text), None);
        }
    }

    #[test]
    fn quotes_are_undone() {
        for text in ["", "plain", "o'brien", "''", "a\nb $HOME `x` \\"] {
            assert_eq!(unquote(&quote(text.as_bytes())), text.as_bytes());
            let longer = [&quote(text.as_bytes())[..], b" || it's more"].concat();
            assert_eq!(quoted_prefix(&longer).unwrap(), text.as_bytes());
        }
    }
}
