//! Which lines differ, in bounded time.
//!
//! The histogram algorithm of `imara-diff` is what `git diff --histogram` uses, but it is quadratic in the
//! number of separate changes (10 s for 100 000 lines of which every second one changed), and so is Myers'
//! on a few lines that repeat (17 s for 200 000). Time is bounded by work that is counted, never by a clock,
//! so that every machine gives the same answer:
//! * Up to [`HISTOGRAM`] (lines before × lines after; at most about 30 ms) the histogram algorithm.
//! * Above it the lines that are there once on either side, in their longest common order, cut the file
//!   into pieces (patience diff), and each piece is compared on its own.
//! * A piece above [`MYERS`], or one after the commit's [`Work`] is used up, counts as replaced whole: its
//!   lines are all there, as removed and as added ones, only more of them than need be.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, Token};

use super::lines::Hunk;

/// 5 000 lines against 5 000.
const HISTOGRAM: u64 = 25_000_000;

/// 10 000 lines against 10 000: about 20 ms.
const MYERS: u64 = 100_000_000;

/// Work for one commit: some 2 s at worst, a thousand times what a large ordinary commit needs.
const COMMIT: u64 = 3_000_000_000;

/// What is left of a commit's work, in lines before × lines after.
pub(super) struct Work(u64);

impl Work {
    pub(super) fn new() -> Self {
        Self(COMMIT)
    }

    fn take(&mut self, amount: u64) -> bool {
        let enough = self.0 >= amount;
        self.0 = if enough { self.0 - amount } else { 0 };
        enough
    }
}

/// The differences of two lists of tokens below `tokens`.
pub(super) fn hunks(before: &[Token], after: &[Token], tokens: u32, work: &mut Work) -> Vec<Hunk> {
    let mut found = Vec::new();
    if product(before, after) <= HISTOGRAM {
        piece(before, after, tokens, (0, 0), work, &mut found);
        return found;
    }
    let mut local = Renumber::new(tokens);
    let mut start = (0, 0);
    for anchor in anchors(before, after, tokens).into_iter().chain([(before.len(), after.len())]) {
        let (old, new) = (&before[start.0..anchor.0], &after[start.1..anchor.1]);
        if !(old.is_empty() && new.is_empty()) {
            let (old, new, tokens) = local.apply(old, new);
            piece(&old, &new, tokens, start, work, &mut found);
        }
        start = (anchor.0 + 1, anchor.1 + 1);
    }
    found
}

fn product(before: &[Token], after: &[Token]) -> u64 {
    before.len() as u64 * after.len() as u64
}

/// Compares one piece that begins at line `start` of either side.
fn piece(
    before: &[Token],
    after: &[Token],
    tokens: u32,
    start: (usize, usize),
    work: &mut Work,
    found: &mut Vec<Hunk>,
) {
    let (old, new) = (number(start.0), number(start.1));
    let moved = |range: Range<u32>, by: u32| range.start + by..range.end + by;
    let amount = product(before, after);
    if amount == 0 || amount > MYERS || !work.take(amount) {
        found.push(Hunk {
            before: moved(0..number(before.len()), old),
            after: moved(0..number(after.len()), new),
        });
        return;
    }
    let algorithm = if amount > HISTOGRAM { Algorithm::Myers } else { Algorithm::Histogram };
    let mut diff = Diff::default();
    diff.compute_with(algorithm, before, after, tokens);
    found.extend(
        diff.hunks().map(|hunk| Hunk { before: moved(hunk.before, old), after: moved(hunk.after, new) }),
    );
}

/// A line number: contents of at most 4 MiB have fewer lines than 2³².
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Pairs of equal lines, each there once on either side, ascending on both sides.
fn anchors(before: &[Token], after: &[Token], tokens: u32) -> Vec<(usize, usize)> {
    let (old, new) = (once(before, tokens), once(after, tokens));
    let pairs: Vec<(usize, usize)> = before
        .iter()
        .enumerate()
        .filter(|(at, token)| old[token.0 as usize] == Some(*at))
        .filter_map(|(at, token)| Some((at, new[token.0 as usize]?)))
        .collect();
    // Longest ascending run: `ends[n]` is the pair with the smallest end of a run of n + 1.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (index, &(_, at)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|&end| pairs[end].1 < at);
        previous.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        if length == ends.len() {
            ends.push(index);
        } else {
            ends[length] = index;
        }
    }
    let mut run: Vec<_> = std::iter::successors(ends.last().copied(), |&index| previous[index])
        .map(|index| pairs[index])
        .collect();
    run.reverse();
    run
}

/// Where each token is that is there exactly once.
fn once(lines: &[Token], tokens: u32) -> Vec<Option<usize>> {
    let mut count = vec![0_u8; tokens as usize];
    let mut at = vec![None; tokens as usize];
    for (index, token) in lines.iter().enumerate() {
        let count = &mut count[token.0 as usize];
        *count = count.saturating_add(1);
        at[token.0 as usize] = (*count == 1).then_some(index);
    }
    at
}

/// Gives a piece small token numbers: the algorithms allocate by the largest one.
struct Renumber {
    /// By token, one more than its number in this piece; 0 where it has none.
    local: Vec<u32>,
}

impl Renumber {
    fn new(tokens: u32) -> Self {
        Self { local: vec![0; tokens as usize] }
    }

    fn apply(&mut self, before: &[Token], after: &[Token]) -> (Vec<Token>, Vec<Token>, u32) {
        let mut next = 0;
        let mut map = |lines: &[Token]| -> Vec<Token> {
            lines
                .iter()
                .map(|token| {
                    let local = &mut self.local[token.0 as usize];
                    if *local == 0 {
                        next += 1;
                        *local = next;
                    }
                    Token(*local - 1)
                })
                .collect()
        };
        let mapped = (map(before), map(after));
        for token in before.iter().chain(after) {
            self.local[token.0 as usize] = 0;
        }
        (mapped.0, mapped.1, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(numbers: impl IntoIterator<Item = u32>) -> Vec<Token> {
        numbers.into_iter().map(Token).collect()
    }

    /// (removed, added) after checking that the hunks lead from one side to the other.
    fn counts(before: &[Token], after: &[Token], tokens: u32) -> (usize, usize) {
        let mut built: Vec<Token> = Vec::new();
        let (mut at, mut removed, mut added) = (0, 0, 0);
        for hunk in hunks(before, after, tokens, &mut Work::new()) {
            let (old, new) = (
                hunk.before.start as usize..hunk.before.end as usize,
                hunk.after.start as usize..hunk.after.end as usize,
            );
            built.extend(&before[at..old.start]);
            assert_eq!(built.len(), new.start);
            built.extend(&after[new.clone()]);
            at = old.end;
            removed += old.len();
            added += new.len();
        }
        built.extend(&before[at..]);
        assert!(built == after);
        (removed, added)
    }

    #[test]
    fn every_second_line_of_a_long_file() {
        let n = 200_000;
        let before = tokens(0..n);
        let after = tokens((0..n).map(|line| if line % 2 == 0 { line } else { n + line }));
        assert_eq!(counts(&before, &after, 2 * n), (100_000, 100_000));
    }

    #[test]
    fn long_files_without_a_line_in_common_are_replaced() {
        let n = 200_000;
        assert_eq!(counts(&tokens(0..n), &tokens(n..2 * n), 2 * n), (200_000, 200_000));
    }

    #[test]
    fn lines_that_only_repeat_stay_bounded() {
        let n = 300_000;
        let before = tokens((0..n).map(|line| line % 8191 * 7919 % 101 % 10));
        let after = tokens((0..n).map(|line| line % 8191 * 104_729 % 103 % 10));
        assert_eq!(counts(&before, &after, 10), (300_000, 300_000));
    }

    #[test]
    fn a_long_file_with_one_block_moved() {
        let before = tokens(0..50_000);
        let after = tokens((1000..50_000).chain(0..1000));
        assert_eq!(counts(&before, &after, 50_000), (1000, 1000));
    }

    #[test]
    fn work_runs_out() {
        let (before, after) =
            (tokens(0..100), tokens((0..100).map(|line| if line == 50 { 200 } else { line })));
        let mut work = Work(10_000);
        assert_eq!(hunks(&before, &after, 201, &mut work), [Hunk { before: 50..51, after: 50..51 }]);
        assert_eq!(hunks(&before, &after, 201, &mut work), [Hunk { before: 0..100, after: 0..100 }]);
    }
}
