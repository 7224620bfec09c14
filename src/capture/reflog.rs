//! Reflogs: what was appended since the last look, and what each entry says of its commit.
//!
//! Read as files, since libgit2 reads a whole log to give one entry. A log grows at its end; Git rewrites
//! it when entries expire, or when one is deleted. Times in it are no help: they are what
//! `GIT_COMMITTER_DATE` says.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CommitId;

/// At most so much of a log is read at once, 4 MiB or about 20 000 entries; of more the newest.
const MAX_BYTES: u64 = 4 << 20;

/// So much before the mark is read to find the line that the mark names; a longer line costs another read.
const CONTEXT: u64 = 1 << 10;

/// How far a log was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Its length then.
    bytes: u64,
    /// The two ids of its last line then; empty for an empty log.
    last: String,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// None where the ref was created.
    pub(super) old: Option<CommitId>,
    /// None where it was deleted.
    pub(super) new: Option<CommitId>,
    pub(super) message: String,
    /// The mark that lies just before this line.
    before: Mark,
}

/// What a log says.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The entries after the mark, oldest first.
    pub(super) entries: Vec<Entry>,
    /// Whether the mark was not found: the entries may be older than it.
    pub(super) rewritten: bool,
    /// Its end.
    pub(super) mark: Mark,
}

/// What an entry says of its new commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This very commit was made here.
    Made,
    /// As [`Origin::Made`], in place of the old one.
    Amended,
    /// A merge made here of what was pulled: the other parents came from elsewhere.
    Pulled,
    /// It came from elsewhere, with its history.
    Fetched,
    /// Nothing: what is new below it was made here unless something else says otherwise.
    Moved,
}

impl Entry {
    /// By the messages that Git writes (`builtin/commit.c`, `sequencer.c`, `builtin/fetch.c`,
    /// `builtin/merge.c`), and libgit2, JGit and dulwich after it. They are never translated.
    pub(super) fn origin(&self) -> Origin {
        let message = self.message.as_str();
        let pulled_here = |word: &str| word == ".";
        if message.starts_with("commit (amend)") {
            return Origin::Amended;
        }
        if message.starts_with("commit:") || message.starts_with("commit (") {
            return Origin::Made;
        }
        if message.starts_with("pull") {
            let action = message.split(": ").next().unwrap_or_default();
            let rest = message.get(action.len()..).unwrap_or_default();
            return match rest {
                _ if action.split(' ').any(pulled_here) => Origin::Moved,
                rest if rest.contains("Merge made by") => Origin::Pulled,
                rest if rest.to_ascii_lowercase().ends_with("fast-forward") => Origin::Fetched,
                rest if rest.contains("storing ") || rest.contains("forced-update") => Origin::Fetched,
                rest if action.contains("(start)") || rest.starts_with(": checkout ") => Origin::Fetched,
                _ => Origin::Moved,
            };
        }
        let fetched = ["fetch", "clone: ", "push", "initial pull"];
        if fetched.iter().any(|word| message.starts_with(word)) {
            return Origin::Fetched;
        }
        let made = ["am: ", "cherry-pick: ", "revert: "];
        if made.iter().any(|word| message.starts_with(word)) && !message.ends_with("fast-forward") {
            return Origin::Made;
        }
        if message.starts_with("merge ") && message.contains(": Merge made by") {
            return Origin::Made;
        }
        Origin::Moved
    }
}

/// Reads what was appended to a log since `mark`; all of it where there is none. A log that is not there
/// is empty.
pub(super) fn read(path: &Path, mark: Option<&Mark>) -> Log {
    let Ok(mut file) = File::open(path) else { return Log::default() };
    let length = file.metadata().map_or(0, |found| found.len());
    if let Some(mark) = mark
        && length >= mark.bytes
    {
        let from = mark.bytes.saturating_sub(CONTEXT);
        let text = tail(&mut file, from, length);
        let at = usize::try_from(mark.bytes - from).unwrap_or(usize::MAX);
        if let Some((before, after)) = text.split_at_checked(at)
            && last_ids(before) == mark.last
            && (before.is_empty() || before.ends_with(b"\n"))
        {
            let entries = lines(after, mark.clone());
            let mark = end(&entries, mark.clone(), after);
            return Log { entries, rewritten: length - from > MAX_BYTES, mark };
        }
    }
    let from = length.saturating_sub(MAX_BYTES);
    let text = tail(&mut file, from, length);
    // The middle of a line is no line.
    let begin = if from == 0 { 0 } else { memchr::memchr(b'\n', &text).map_or(text.len(), |at| at + 1) };
    let base = Mark { bytes: from + begin as u64, last: String::new() };
    let text = &text[begin..];
    let mut entries = lines(text, base.clone());
    let mark_now = end(&entries, base, text);
    let mut rewritten = false;
    if let Some(mark) = mark {
        match entries.iter().rposition(|entry| !mark.last.is_empty() && entry.ids() == mark.last) {
            Some(last) => drop(entries.drain(..=last)),
            None => rewritten = true,
        }
    }
    Log { entries, rewritten, mark: mark_now }
}

impl Entry {
    fn ids(&self) -> String {
        let hex = |id: &Option<CommitId>, other: &Option<CommitId>| match (id, other) {
            (Some(id), _) => id.hex(),
            (None, other) => "0".repeat(other.map_or(40, |other| other.hex().len())),
        };
        format!("{} {}", hex(&self.old, &self.new), hex(&self.new, &self.old))
    }
}

impl Log {
    /// Ends the log before its first entry that brought one of these commits. Returns what the ref named
    /// before that entry; outer none where there is no such entry.
    pub(super) fn cut_before(&mut self, commits: &HashSet<String>) -> Option<Option<CommitId>> {
        let brought =
            |entry: &Entry| entry.new.is_some_and(|id| commits.contains(&id.hex())) && entry.old != entry.new;
        let first = self.entries.iter().find(|entry| brought(entry))?;
        self.mark = first.before.clone();
        Some(first.old)
    }
}

/// The bytes of a file between two places, at most the last [`MAX_BYTES`] and the context.
fn tail(file: &mut File, from: u64, length: u64) -> Vec<u8> {
    let mut text = Vec::new();
    let read = file
        .seek(SeekFrom::Start(from))
        .and_then(|_| file.take((length - from).min(MAX_BYTES + CONTEXT)).read_to_end(&mut text));
    if read.is_err() {
        text.clear();
    }
    text
}

fn lines(text: &[u8], mut at: Mark) -> Vec<Entry> {
    let mut entries = Vec::new();
    // What has no line end yet is being written.
    for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let before = at.clone();
        at = Mark { bytes: at.bytes + line.len() as u64, last: ids(line) };
        entries.extend(parse(line, before));
    }
    entries
}

/// The mark behind the last whole line.
fn end(entries: &[Entry], base: Mark, text: &[u8]) -> Mark {
    let whole = memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
    if whole == 0 {
        return base;
    }
    let last = entries.last().map_or(base.last, Entry::ids);
    Mark { bytes: base.bytes + whole as u64, last }
}

fn parse(line: &[u8], before: Mark) -> Option<Entry> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let tab = memchr::memchr(b'\t', line);
    let message = tab.map_or(&b""[..], |at| &line[at + 1..]);
    let mut words = line.split(|byte| *byte == b' ');
    let mut id = || {
        let hex = std::str::from_utf8(words.next()?).ok()?;
        let id = CommitId::from_hex(hex)?;
        Some((hex.bytes().any(|byte| byte != b'0')).then_some(id))
    };
    Some(Entry { old: id()?, new: id()?, message: String::from_utf8_lossy(message).into_owned(), before })
}

/// Whether a log that is read in two parts, cut at any line, gives what it gives at once: for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(super) fn halves_agree(text: &[u8]) {
    let whole = lines(text, Mark::default());
    for entry in &whole {
        entry.origin();
        let cut = usize::try_from(entry.before.bytes).unwrap_or(usize::MAX);
        let again = lines(&text[cut..], entry.before.clone());
        assert_eq!(again.first(), Some(entry));
    }
    let mark = end(&whole, Mark::default(), text);
    assert!(mark.bytes <= text.len() as u64);
}

/// The first two words of a line.
fn ids(line: &[u8]) -> String {
    let end = line.iter().enumerate().filter(|(_, byte)| **byte == b' ').nth(1).map_or(0, |(at, _)| at);
    String::from_utf8_lossy(&line[..end]).into_owned()
}

fn last_ids(text: &[u8]) -> String {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    ids(memchr::memrchr(b'\n', text).map_or(text, |at| &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn line(old: char, new: char, message: &str) -> String {
        let id = |c: char| c.to_string().repeat(40);
        format!("{} {} A <a@b> 1700000000 +0000\t{message}\n", id(old), id(new))
    }

    #[test]
    fn only_what_was_appended_is_read_and_a_rewritten_log_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("HEAD");
        let (one, two, three) =
            (line('0', 'a', "commit (initial): One"), line('a', 'b', "commit: Two"), line('b', 'c', "x"));
        std::fs::write(&path, format!("{one}{two}")).unwrap();
        let all = read(&path, None);
        assert_eq!((all.entries.len(), all.rewritten), (2, false));
        assert_eq!(all.entries[0].old, None);
        // The half line belongs to a writer that is not done.
        std::fs::write(&path, format!("{one}{two}{three}{}", &two[..20])).unwrap();
        let more = read(&path, Some(&all.mark));
        assert_eq!((more.entries.len(), more.rewritten), (1, false));
        assert_eq!(more.entries[0].message, "x");
        assert_eq!(read(&path, Some(&more.mark)).entries, []);
        // The first line has expired.
        std::fs::write(&path, format!("{two}{three}")).unwrap();
        let shorter = read(&path, Some(&all.mark));
        assert_eq!((shorter.entries.len(), shorter.rewritten), (1, false));
        std::fs::write(&path, &three).unwrap();
        let other = read(&path, Some(&all.mark));
        assert_eq!((other.entries.len(), other.rewritten), (1, true));
        assert_eq!(read(&dir.path().join("none"), Some(&all.mark)).entries, []);
    }

    #[test]
    fn a_cut_log_begins_again_with_the_first_announced_commit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("HEAD");
        let text = [line('0', 'a', "clone: from x"), line('a', 'b', "commit: Two"), line('b', 'c', "reset")];
        std::fs::write(&path, text.concat()).unwrap();
        let mut log = read(&path, None);
        let before = log.cut_before(&HashSet::from(["b".repeat(40)])).unwrap();
        assert_eq!(before, CommitId::from_hex(&"a".repeat(40)));
        let again = read(&path, Some(&log.mark));
        assert_eq!((again.entries.len(), again.rewritten), (2, false));
    }

    #[test]
    fn messages_tell_where_a_commit_came_from() {
        for (message, origin) in [
            ("commit: Fix", Origin::Made),
            ("commit (initial): Fix", Origin::Made),
            ("commit (merge): Fix", Origin::Made),
            ("commit (amend): Fix", Origin::Amended),
            ("cherry-pick: Fix", Origin::Made),
            ("cherry-pick: fast-forward", Origin::Moved),
            ("am: Fix", Origin::Made),
            ("merge side: Merge made by the 'ort' strategy.", Origin::Made),
            ("merge side: Fast-forward", Origin::Moved),
            ("pull: Fast-forward", Origin::Fetched),
            ("pull origin main: Merge made by the 'ort' strategy.", Origin::Pulled),
            ("pull . side: Fast-forward", Origin::Moved),
            ("pull --rebase origin main (start): checkout 0123", Origin::Fetched),
            ("pull --rebase origin main (pick): Fix", Origin::Moved),
            ("pull origin main: storing head", Origin::Fetched),
            ("fetch origin main:side: storing head", Origin::Fetched),
            ("clone: from https://example.com/x", Origin::Fetched),
            ("push", Origin::Fetched),
            ("rebase (pick): Fix", Origin::Moved),
            ("reset: moving to HEAD~1", Origin::Moved),
            ("", Origin::Moved),
        ] {
            let entry = Entry { old: None, new: None, message: message.to_owned(), before: Mark::default() };
            assert_eq!(entry.origin(), origin, "{message}");
        }
    }
}
