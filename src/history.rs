//! Many commits at once: a few threads, each with its own handle on the repository, take stretches of
//! neighbouring commits (neighbours share trees and blobs, which are then in the handle's caches) and hand
//! their results to one consumer. Stretches are long at first and short towards the end, so that all
//! threads end together.
//!
//! The work on a commit has two parts, reading it and what follows. Half of the threads read and leave what follows
//! to the others, which read only while nothing waits for them: libgit2 locks its windows on a pack for the whole
//! process at each look, and what one thread has inflated another would inflate again. Two threads that do both take
//! a fifth more processor time for the same history.
//!
//! Memory is bounded: at most `WAITING` runs of `RUN` results wait for the consumer, and about `AHEAD` of what was
//! read for the second part, whatever the length of the history.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::capture::{CaptureError, CommitId, Reading, Repo};

/// Results that one thread hands over at a time.
const RUN: usize = 32;
/// Stretches that every reader would take if all were as long as the next.
const SHARES: usize = 4;
/// Commits that a helper takes at a time, when nothing waits for it.
const HELP: usize = 16;
/// Runs that may wait for the consumer, so that it may sync without the threads' having to wait.
const WAITING: usize = 16;
/// What may be read ahead: bytes, so that a commit above them is finished by who read it, and commits.
const AHEAD: usize = 4 << 20;
const AHEAD_COMMITS: usize = 32;

/// Calls `work` for every commit on `jobs` threads and `sink` with each result on the calling thread, in
/// no particular order. `sink` ends the walk early by returning `false`.
///
/// # Errors
/// If a thread cannot open the repository.
pub fn each<T: Send>(
    commits: &[CommitId],
    jobs: usize,
    open: impl Fn() -> Result<Repo, CaptureError> + Sync,
    work: impl Fn(&Reading<'_>, &CommitId) -> T + Sync,
    sink: impl FnMut(T) -> bool,
) -> Result<(), CaptureError> {
    each_in_two(commits, jobs, open, work, |_| 0, |result| result, sink)
}

/// As [`each`], in two parts: `read` needs the repository, `finish` does not. `weigh` says about how many bytes of
/// memory a commit takes in between.
///
/// # Errors
/// As there.
pub fn each_in_two<R: Send, T: Send>(
    commits: &[CommitId],
    jobs: usize,
    open: impl Fn() -> Result<Repo, CaptureError> + Sync,
    read: impl Fn(&Reading<'_>, &CommitId) -> R + Sync,
    weigh: impl Fn(&R) -> usize + Sync,
    finish: impl Fn(R) -> T + Sync,
    mut sink: impl FnMut(T) -> bool,
) -> Result<(), CaptureError> {
    let threads = jobs.clamp(1, commits.len().div_ceil(RUN).max(1));
    let readers = threads.div_ceil(2);
    let plan = Plan { commits, next: AtomicUsize::new(0), stop: AtomicBool::new(false), readers };
    let ahead = Ahead::new(readers, if readers < threads { AHEAD_COMMITS } else { 0 });
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        for number in 0..threads {
            let helps = number >= readers;
            let mut out = Out { sender: sender.clone(), run: Vec::new() };
            let (plan, ahead, open, read, weigh, finish) = (&plan, &ahead, &open, &read, &weigh, &finish);
            scope.spawn(move || {
                let leaving = (!helps).then(|| Leaving(ahead));
                let through = open().and_then(|repo| {
                    repo.reading(|reading| {
                        while let Some(stretch) = plan.stretch(helps) {
                            for id in stretch {
                                while helps && let Some(read) = ahead.take() {
                                    out.put(finish(read), plan);
                                }
                                if plan.is_over() {
                                    return;
                                }
                                let read = read(reading, id);
                                let weight = weigh(&read);
                                let kept = if helps { Some(read) } else { ahead.offer(read, weight) };
                                if let Some(read) = kept {
                                    out.put(finish(read), plan);
                                }
                            }
                        }
                    })
                });
                drop(leaving);
                if let Err(error) = through {
                    // The consumer may be gone already, and with it the interest in the error.
                    let _ = out.sender.send(Err(error));
                    return;
                }
                while let Some(read) = ahead.wait(plan) {
                    out.put(finish(read), plan);
                }
                out.send(plan);
            });
        }
        drop(sender);
        let mut outcome = Ok(());
        for message in &receiver {
            match message {
                Ok(results) => {
                    if !results.into_iter().all(&mut sink) {
                        break;
                    }
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        plan.stop.store(true, Ordering::Relaxed);
        ahead.wake();
        // Threads that wait for room in the channel wake when it is gone.
        drop(receiver);
        outcome
    })
}

/// Who reads what, and whether anyone still should.
struct Plan<'c> {
    commits: &'c [CommitId],
    next: AtomicUsize,
    stop: AtomicBool,
    readers: usize,
}

impl<'c> Plan<'c> {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn stretch(&self, helps: bool) -> Option<&'c [CommitId]> {
        let end = |from: usize| {
            let left = self.commits.len() - from;
            from + if helps { HELP } else { (left / (self.readers * SHARES)).max(RUN) }.min(left)
        };
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |from| {
            (from < self.commits.len() && !self.is_over()).then(|| end(from))
        });
        taken.ok().map(|from| &self.commits[from..end(from)])
    }
}

/// A thread's way to the consumer.
struct Out<T> {
    sender: SyncSender<Result<Vec<T>, CaptureError>>,
    run: Vec<T>,
}

impl<T> Out<T> {
    fn put(&mut self, result: T, plan: &Plan<'_>) {
        self.run.push(result);
        if self.run.len() >= RUN {
            self.send(plan);
        }
    }

    fn send(&mut self, plan: &Plan<'_>) {
        if !self.run.is_empty() && self.sender.send(Ok(std::mem::take(&mut self.run))).is_err() {
            // The consumer is gone.
            plan.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// What was read and waits for the second part.
struct Ahead<R> {
    state: Mutex<Waiting<R>>,
    changed: Condvar,
    /// Commits that may wait.
    most: usize,
}

struct Waiting<R> {
    read: VecDeque<(R, usize)>,
    weight: usize,
    /// Threads that may still put something here.
    readers: usize,
    /// Threads that wait for it.
    idle: usize,
}

impl<R> Ahead<R> {
    fn new(readers: usize, most: usize) -> Self {
        let state = Waiting { read: VecDeque::new(), weight: 0, readers, idle: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), most }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves `read` for another thread; back where there is no room.
    fn offer(&self, read: R, weight: usize) -> Option<R> {
        let mut state = self.lock();
        if state.read.len() >= self.most || state.weight + weight > AHEAD {
            return Some(read);
        }
        state.weight += weight;
        state.read.push_back((read, weight));
        if state.idle > 0 {
            self.changed.notify_one();
        }
        None
    }

    /// What was read first, if anything waits.
    fn take(&self) -> Option<R> {
        self.lock().take()
    }

    /// What was read first; none when nothing will come any more.
    fn wait(&self, plan: &Plan<'_>) -> Option<R> {
        let mut state = self.lock();
        loop {
            if plan.is_over() {
                return None;
            }
            let taken = state.take();
            if taken.is_some() || state.readers == 0 {
                return taken;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Lets those that wait look again.
    fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }
}

impl<R> Waiting<R> {
    fn take(&mut self) -> Option<R> {
        let (read, weight) = self.read.pop_front()?;
        self.weight -= weight;
        Some(read)
    }
}

/// A reader, until it is through, fails or panics.
struct Leaving<'a, R>(&'a Ahead<R>);

impl<R> Drop for Leaving<'_, R> {
    fn drop(&mut self) {
        self.0.lock().readers -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::process::Command;

    use super::*;

    /// A repository with so many commits.
    fn repository(commits: usize) -> (tempfile::TempDir, Vec<CommitId>) {
        let folder = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str], input: &str| {
            let mut child = Command::new("git")
                .args(arguments)
                .current_dir(folder.path())
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env_remove("GIT_DIR")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        };
        git(&["init", "-q"], "");
        let stream: String = (0..commits)
            .map(|number| {
                format!(
                    "commit refs/heads/x\ncommitter A <a@example.org> {number} +0000\ndata 1\nx\n\
                     M 644 inline a\ndata <<E\n{number}\nE\n\n"
                )
            })
            .collect();
        git(&["fast-import", "--quiet"], &stream);
        let ids = git(&["rev-list", "--reverse", "x"], "");
        (folder, ids.lines().map(|id| CommitId::from_hex(id).unwrap()).collect())
    }

    #[test]
    fn every_commit_is_read_and_finished_once() {
        let (folder, commits) = repository(1000);
        for (jobs, weight) in [(1, 0), (2, 0), (2, AHEAD), (3, 1), (8, AHEAD / 4)] {
            let mut all = Vec::new();
            each_in_two(
                &commits,
                jobs,
                || Repo::open(folder.path()),
                |reading, id| reading.facts(id).unwrap(),
                |_| weight,
                |facts| (CommitId::from_hex(&facts.id).unwrap(), facts.commit_time),
                |done| {
                    all.push(done);
                    true
                },
            )
            .unwrap();
            all.sort_by_key(|(_, time)| *time);
            assert!(all.iter().map(|(id, _)| id).eq(&commits), "{jobs} {weight}");
        }
    }

    #[test]
    fn a_consumer_that_has_enough_ends_the_walk() {
        let (folder, commits) = repository(1000);
        for jobs in [1, 2, 4] {
            let (read, mut left) = (AtomicUsize::new(0), 40);
            each(
                &commits,
                jobs,
                || Repo::open(folder.path()),
                |_, _| read.fetch_add(1, Ordering::Relaxed),
                |_| {
                    left -= 1;
                    left > 0
                },
            )
            .unwrap();
            assert_eq!(left, 0, "{jobs}");
            assert!(read.load(Ordering::Relaxed) < commits.len(), "{jobs}");
        }
    }

    #[test]
    fn a_repository_that_cannot_be_opened_is_an_error_and_no_wait() {
        let (folder, commits) = repository(200);
        for failing in 0..4 {
            let opened = AtomicUsize::new(0);
            let open = || {
                let fails = opened.fetch_add(1, Ordering::Relaxed) == failing;
                Repo::open(&folder.path().join(if fails { "absent" } else { "" }))
            };
            let result = each(&commits, 4, open, |reading, id| reading.facts(id).is_ok(), |_| true);
            assert!(matches!(result, Err(CaptureError::NotARepository { .. })), "{failing}: {result:?}");
        }
    }
}
