//! Many commits at once: a few threads, each with its own handle on the repository, take stretches of
//! neighbouring commits (neighbours share trees and blobs, which are then in the handle's caches) and hand
//! their results to one consumer. Stretches are long at first and short towards the end, so that all
//! threads end together.
//!
//! Memory is bounded: at most `WAITING` runs of `RUN` results wait for the consumer, whatever the
//! length of the history.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use crate::capture::{CaptureError, CommitId, Reading, Repo};

/// Results that one thread hands over at a time.
const RUN: usize = 32;
/// Stretches that every thread would take if all were as long as the next.
const SHARES: usize = 4;
/// Runs that may wait for the consumer, so that it may sync without the threads' having to wait.
const WAITING: usize = 16;

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
    mut sink: impl FnMut(T) -> bool,
) -> Result<(), CaptureError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let threads = jobs.clamp(1, commits.len().div_ceil(RUN).max(1));
    let (sender, receiver) = sync_channel::<Result<Vec<T>, CaptureError>>(WAITING);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            let (next, stop, open, work) = (&next, &stop, &open, &work);
            scope.spawn(move || {
                let repo = match open() {
                    Ok(repo) => repo,
                    Err(error) => {
                        // The consumer may be gone already, and with it the interest in the error.
                        let _ = sender.send(Err(error));
                        return;
                    }
                };
                let through = repo.reading(|reading| {
                    while !stop.load(Ordering::Relaxed) {
                        let stretch = |from: usize| {
                            let left = commits.len() - from;
                            from + (left / (threads * SHARES)).max(RUN).min(left)
                        };
                        let taken = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |from| {
                            (from < commits.len()).then(|| stretch(from))
                        });
                        let Ok(from) = taken else { return };
                        for run in commits[from..stretch(from)].chunks(RUN) {
                            let results = run.iter().map(|id| work(reading, id)).collect();
                            if stop.load(Ordering::Relaxed) || sender.send(Ok(results)).is_err() {
                                return;
                            }
                        }
                    }
                });
                if let Err(error) = through {
                    let _ = sender.send(Err(error));
                }
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
        stop.store(true, Ordering::Relaxed);
        // Threads that wait for room in the channel wake when it is gone.
        drop(receiver);
        outcome
    })
}
