//! Finds renames among the deleted and added files of a commit, as `git diff -M` does.
//!
//! First by equal content, then by an unambiguous file name with 75 % of the content in common, then all
//! that are left against each other from 50 %. Similarity is Git's own measure: bytes in lines (or pieces
//! of 64 bytes) that both have, by the size of the larger file. Copies are never looked for.
//!
//! Limits, smaller than Git's and independent of the machine: at most [`MAX_PAIRS`] comparisons in the last
//! step, files up to 4 MiB, [`MAX_BYTES`] of content in all. Beyond them files stay added and deleted.

use std::collections::{HashMap, HashSet, VecDeque};

use super::MAX_FILE_BYTES;
use super::blobs::{Blobs, Role};
use super::lines::is_binary;
use super::tree_walk::{Change, Side};

/// Comparisons of contents in the last step (Git: 1 000 000).
const MAX_PAIRS: usize = 40_000;

/// Bytes of content that are read to compare.
const MAX_BYTES: u64 = 32 << 20;

/// Git's scale of similarity, and the least that counts.
const MAX_SCORE: u64 = 60_000;
const MIN_SCORE: u64 = MAX_SCORE / 2;
const MIN_NAME_SCORE: u64 = MAX_SCORE * 3 / 4;

/// Deleted files of one content that are looked at for each added file, as in Git: thousands of empty files
/// must not be compared with each other.
const MAX_SAME: usize = 100;

/// The best candidates that are kept for each added file.
const CANDIDATES: usize = 4;

/// Turns matching deletions and additions into renames; the order by path is kept.
pub(super) fn detect(blobs: &Blobs<'_>, changes: &mut Vec<Change>) {
    let gone: Vec<usize> = indices(changes, |change| change.new.is_none());
    let fresh: Vec<usize> = indices(changes, |change| change.old.is_none());
    if gone.is_empty() || fresh.is_empty() {
        return;
    }
    let mut search = Search {
        blobs,
        changes,
        pairs: HashMap::new(),
        used: HashSet::new(),
        sizes: HashMap::new(),
        prints: HashMap::new(),
        bytes: 0,
    };
    search.exact(&gone, &fresh);
    search.by_name(&gone, &fresh);
    search.by_content(&gone, &fresh);
    let Search { pairs, used, .. } = search;

    for (to, from) in pairs {
        let (path, old) = (changes[from].path.clone(), changes[from].old);
        changes[to].old_path = Some(path);
        changes[to].old = old;
    }
    let mut index = 0..;
    changes.retain(|_| index.next().is_some_and(|index| !used.contains(&index)));
}

fn indices(changes: &[Change], keep: impl Fn(&Change) -> bool) -> Vec<usize> {
    changes.iter().enumerate().filter(|(_, change)| keep(change)).map(|(index, _)| index).collect()
}

fn file_name(path: &[u8]) -> &[u8] {
    memchr::memrchr(b'/', path).map_or(path, |at| &path[at + 1..])
}

/// Score, whether the file name is the same, added and deleted file.
type Candidate = (u64, bool, usize, usize);

/// Puts a candidate in the place of the first of the worst ones. Where scores are equal this decides which
/// file becomes which, so it does as Git does.
fn keep_best(best: &mut Vec<Candidate>, candidate: Candidate) {
    let score = |candidate: &Candidate| (candidate.0, candidate.1);
    if best.len() < CANDIDATES {
        best.push(candidate);
    } else if let Some(worst) = best.iter_mut().min_by_key(|candidate| score(candidate))
        && score(&candidate) > score(worst)
    {
        *worst = candidate;
    }
}

struct Search<'s, 'r> {
    blobs: &'s Blobs<'r>,
    changes: &'s [Change],
    /// Added file → deleted file, by index.
    pairs: HashMap<usize, usize>,
    /// Deleted files that are taken.
    used: HashSet<usize>,
    sizes: HashMap<usize, Option<u64>>,
    prints: HashMap<usize, Option<Fingerprint>>,
    bytes: u64,
}

impl Search<'_, '_> {
    fn exact(&mut self, gone: &[usize], fresh: &[usize]) {
        let mut by_id: HashMap<git2::Oid, VecDeque<usize>> = HashMap::new();
        for &from in gone {
            if let Some(old) = self.changes[from].old {
                by_id.entry(old.id).or_default().push_back(from);
            }
        }
        for &to in fresh {
            let Some(new) = self.changes[to].new else { continue };
            let Some(same) = by_id.get_mut(&new.id) else { continue };
            let fits = |from: usize| {
                self.changes[from]
                    .old
                    .is_some_and(|old| old.mode == new.mode || (old.is_file() && new.is_file()))
            };
            let name = file_name(&self.changes[to].path);
            let near = || same.iter().take(MAX_SAME);
            let best = near()
                .position(|&from| fits(from) && file_name(&self.changes[from].path) == name)
                .or_else(|| near().position(|&from| fits(from)));
            if let Some(from) = best.and_then(|best| same.remove(best)) {
                self.take(to, from);
            }
        }
    }

    /// A file that only moved: its name is there once on either side.
    fn by_name(&mut self, gone: &[usize], fresh: &[usize]) {
        let (gone, fresh) = self.left(gone, fresh);
        let (gone_names, fresh_names) = (self.unique_names(&gone), self.unique_names(&fresh));
        for &to in &fresh {
            let name = file_name(&self.changes[to].path);
            if fresh_names.get(name) != Some(&Some(to)) {
                continue;
            }
            if let Some(&Some(from)) = gone_names.get(name)
                && self.similarity(from, to, MIN_NAME_SCORE) >= MIN_NAME_SCORE
            {
                self.take(to, from);
            }
        }
    }

    fn by_content(&mut self, gone: &[usize], fresh: &[usize]) {
        let (gone, fresh) = self.left(gone, fresh);
        if gone.len() * fresh.len() > MAX_PAIRS {
            return;
        }
        let mut matrix: Vec<Candidate> = Vec::new();
        for &to in &fresh {
            let mut best: Vec<Candidate> = Vec::with_capacity(CANDIDATES);
            for &from in &gone {
                let same_name = file_name(&self.changes[from].path) == file_name(&self.changes[to].path);
                let candidate = (self.similarity(from, to, MIN_SCORE), same_name, to, from);
                if candidate.0 >= MIN_SCORE {
                    keep_best(&mut best, candidate);
                }
            }
            matrix.extend(best);
        }
        matrix.sort_by_key(|&(score, same_name, ..)| std::cmp::Reverse((score, same_name)));
        for (_, _, to, from) in matrix {
            if !self.pairs.contains_key(&to) && !self.used.contains(&from) {
                self.take(to, from);
            }
        }
    }

    fn take(&mut self, to: usize, from: usize) {
        self.pairs.insert(to, from);
        self.used.insert(from);
    }

    /// Ordinary files that have no partner yet.
    fn left(&self, gone: &[usize], fresh: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let is_file = |side: Option<Side>| side.is_some_and(Side::is_file);
        let gone =
            gone.iter().copied().filter(|from| !self.used.contains(from) && is_file(self.changes[*from].old));
        let fresh =
            fresh.iter().copied().filter(|to| !self.pairs.contains_key(to) && is_file(self.changes[*to].new));
        (gone.collect(), fresh.collect())
    }

    /// The one file of each name; none where the name is there twice.
    fn unique_names(&self, files: &[usize]) -> HashMap<Vec<u8>, Option<usize>> {
        let mut names = HashMap::new();
        for &file in files {
            let name = file_name(&self.changes[file].path).to_vec();
            names.entry(name).and_modify(|only| *only = None).or_insert(Some(file));
        }
        names
    }

    /// Git's score, or 0 where it cannot reach `least` or a content cannot be compared.
    fn similarity(&mut self, from: usize, to: usize, least: u64) -> u64 {
        let (Some(old), Some(new)) = (self.size(from), self.size(to)) else { return 0 };
        let (small, large) = (old.min(new), old.max(new));
        if small == 0 || large * (MAX_SCORE - least) < (large - small) * MAX_SCORE {
            return 0;
        }
        self.load(from);
        self.load(to);
        let (Some(Some(old)), Some(Some(new))) = (self.prints.get(&from), self.prints.get(&to)) else {
            return 0;
        };
        old.common(new) * MAX_SCORE / large
    }

    fn side(&self, index: usize) -> Option<Side> {
        let change = &self.changes[index];
        change.old.or(change.new)
    }

    /// A file's size, asked for once; none where it is absent or too large to compare.
    fn size(&mut self, index: usize) -> Option<u64> {
        let (blobs, side) = (self.blobs, self.side(index)?);
        *self.sizes.entry(index).or_insert_with(|| blobs.size(side.id).filter(|&size| size <= MAX_FILE_BYTES))
    }

    /// Reads a file's fingerprint once, if the limit allows.
    fn load(&mut self, index: usize) {
        if self.prints.contains_key(&index) {
            return;
        }
        let size = self.size(index).filter(|size| self.bytes + size <= MAX_BYTES);
        let print = size.zip(self.side(index)).and_then(|(size, side)| {
            self.bytes += size;
            Some(Fingerprint::new(&self.blobs.read(side.id, Role::New, MAX_FILE_BYTES).ok()?))
        });
        self.prints.insert(index, print);
    }
}

/// A content as the bytes it has in each distinct line or piece of 64 bytes.
struct Fingerprint {
    /// (hash, bytes), sorted by hash, each hash once.
    pieces: Vec<(u32, u32)>,
}

impl Fingerprint {
    fn new(content: &[u8]) -> Self {
        /// Git's table size: the remainder is part of the hash, so it must be the same here.
        const BASE: u32 = 107_927;
        let text = !is_binary(content);
        let mut pieces: Vec<(u32, u32)> = Vec::with_capacity(content.len() / 32);
        let (mut low, mut high, mut length) = (0_u32, 0_u32, 0_u32);
        for (at, &byte) in content.iter().enumerate() {
            if text && byte == b'\r' && content.get(at + 1) == Some(&b'\n') {
                continue;
            }
            let before = low;
            low = ((low << 7) ^ (high >> 25)).wrapping_add(u32::from(byte));
            high = (high << 7) ^ (before >> 25);
            length += 1;
            if length == 64 || byte == b'\n' {
                pieces.push((low.wrapping_add(high.wrapping_mul(0x61)) % BASE, length));
                (low, high, length) = (0, 0, 0);
            }
        }
        if length > 0 {
            pieces.push((low.wrapping_add(high.wrapping_mul(0x61)) % BASE, length));
        }
        pieces.sort_unstable();
        pieces.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        Self { pieces }
    }

    /// Bytes of this content that the other has too.
    fn common(&self, other: &Self) -> u64 {
        let mut theirs = other.pieces.iter().copied().peekable();
        let mut common = 0;
        for &(hash, bytes) in &self.pieces {
            while theirs.next_if(|their| their.0 < hash).is_some() {}
            if let Some((_, their)) = theirs.next_if(|their| their.0 == hash) {
                common += u64::from(bytes.min(their));
            }
        }
        common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(old: &[u8], new: &[u8]) -> u64 {
        let larger = old.len().max(new.len()) as u64;
        Fingerprint::new(old).common(&Fingerprint::new(new)) * 100 / larger
    }

    #[test]
    fn similarity_counts_bytes_of_equal_lines() {
        assert_eq!(score(b"aaaa\nbbbb\n", b"aaaa\nbbbb\n"), 100);
        assert_eq!(score(b"aaaa\nbbbb\n", b"bbbb\ncccc\n"), 50);
        assert_eq!(score(b"aaaa\n", b"bbbb\n"), 0);
        assert_eq!(score(b"aaaa\r\nbbbb\r\n", b"aaaa\nbbbb\n"), 83);
    }

    #[test]
    fn repeated_lines_count_as_often_as_both_have_them() {
        assert_eq!(score(b"a\na\na\na\n", b"a\nb\nc\nd\n"), 25);
    }

    #[test]
    fn file_names() {
        assert_eq!(file_name(b"a/b/c.rs"), b"c.rs");
        assert_eq!(file_name(b"c.rs"), b"c.rs");
    }
}
