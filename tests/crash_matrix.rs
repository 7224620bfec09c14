//! Every write, sync, rename, removal and open of the hook and of the worker it starts: with EIO, with ENOSPC
//! and with SIGKILL in its place, by `strace -e inject`. After each case: what the hook acknowledged is in the
//! store after `flush`; in the end every commit is there once.
//!
//! A few occurrences of each call are tried; all of them with `GITOPS_AGENT_CRASH_MATRIX=all`, which prints the
//! table of `docs/reliability.md` (`cargo test --test crash_matrix -- --nocapture`). Without strace nothing
//! is tried.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is what a full run is for")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use gitops_agent::delivery::WorkerLock;

use world::World;

const CALLS: [&str; 8] =
    ["openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate"];
const FAULTS: [&str; 3] = ["error=EIO", "error=ENOSPC", "signal=KILL"];

/// A commit that no hook has seen.
fn unseen(world: &World, number: usize) -> String {
    std::fs::write(world.repo().join("a.txt"), format!("{number}\n")).unwrap();
    world.git(&["add", "-A"]);
    let mut commit = world.git_command(&["commit", "-q", "-m", &format!("Case {number}")]);
    assert!(commit.env("GITOPS_AGENT", "0").status().unwrap().success());
    world.git(&["rev-parse", "HEAD"])
}

/// Runs the hook, and with it the worker, under strace with further arguments.
fn traced(world: &World, arguments: &[&str], log: &str) -> Output {
    let hook = world.agent(&["hook", "post-commit"]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", log]).args(arguments).arg(hook.get_program()).args(hook.get_args());
    strace.env_clear().current_dir(world.repo()).stdin(Stdio::null());
    strace.envs(hook.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = strace.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while running.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
        // A worker whose store failed stays for the next attempt, and strace with it; `flush` is as good.
        if start.elapsed() > Duration::from_secs(4)
            && let Some(worker) = WorkerLock::holder(&world.home())
        {
            Command::new("kill").args(["-9", &worker.to_string()]).stderr(Stdio::null()).status().unwrap();
        }
    }
    running.wait_with_output().unwrap()
}

/// How often the busiest process of a run without faults makes each call.
fn counts(world: &World) -> BTreeMap<&'static str, usize> {
    let log = world.root().join("trace").to_str().unwrap().to_owned();
    let calls = format!("trace={}", CALLS.join(","));
    assert!(traced(world, &["-e", &calls], &log).status.success());
    let mut by_process: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let (process, rest) = line.split_once(' ').unwrap();
        let call = rest.trim_start().split('(').next().unwrap();
        if let Some(call) = CALLS.into_iter().find(|known| *known == call) {
            *by_process.entry((call, process.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((call, _), count) in by_process {
        let seen: &mut usize = most.entry(call).or_default();
        *seen = count.max(*seen);
    }
    most
}

#[test]
fn whatever_call_fails_or_is_the_last_nothing_acknowledged_is_lost() {
    if !Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success()) {
        eprintln!("skipped: no strace here");
        return;
    }
    let all = std::env::var("GITOPS_AGENT_CRASH_MATRIX").is_ok_and(|value| value == "all");
    let world = World::new();
    world.commit("a.txt", "first\n", "First");
    let counts = counts(&world);
    assert!(counts["fsync"] + counts.get("fdatasync").unwrap_or(&0) >= 2, "{counts:?}");
    println!("{:10} {:14} {:>6} {:>13} {:>6}", "call", "fault", "cases", "acknowledged", "lost");
    let (mut number, mut unacknowledged) = (0, 0);
    for (call, count) in &counts {
        for fault in FAULTS {
            let (mut cases, mut acknowledged) = (0, Vec::new());
            // Spread over the run, first and last included.
            let step = if all { 1 } else { count.div_ceil(3).max(1) };
            for when in (1..=*count).step_by(step) {
                number += 1;
                cases += 1;
                let id = unseen(&world, number);
                // Only what is traced is tampered with.
                let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}:when={when}"));
                let output = traced(&world, &["-e", &trace, "-e", &inject], "/dev/null");
                if output.status.code() == Some(0) && output.stderr.is_empty() {
                    acknowledged.push((id, inject));
                }
            }
            world.ok(&["flush"]);
            let stored: BTreeSet<String> =
                world.records().iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect();
            let lost: Vec<_> = acknowledged.iter().filter(|(id, _)| !stored.contains(id)).collect();
            println!("{call:10} {fault:14} {cases:6} {:13} {:6}", acknowledged.len(), lost.len());
            assert!(lost.is_empty(), "{lost:?}");
            unacknowledged += cases - acknowledged.len();
        }
    }
    assert!(unacknowledged >= 4, "the faults did not take place");
    world.ok(&["backfill"]);
    let commits: BTreeSet<String> = world.git(&["rev-list", "HEAD"]).lines().map(str::to_owned).collect();
    let records = world.records();
    assert_eq!(records.len(), commits.len());
    assert!(records.iter().all(|record| commits.contains(record["id"].as_str().unwrap())));
    world.ok(&["verify"]);
}
