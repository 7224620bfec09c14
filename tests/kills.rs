//! `kill -9` at random points of hook, worker, flush and backfill, all at once, against the emulator over
//! HTTP: in the end exactly one record for each commit.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use world::{Emulator, World};

/// The agent's processes that work for this home, with what they are.
fn processes(home: &Path) -> Vec<(String, &'static str)> {
    let wanted = [b"GITOPS_AGENT_HOME=", home.as_os_str().as_bytes()].concat();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        if !pid.bytes().all(|byte| byte.is_ascii_digit())
            || !read("environ").split(|byte| *byte == 0).any(|variable| variable == wanted)
            || std::fs::read_link(entry.path().join("exe")).ok().as_deref() != Some(Path::new(world::agent()))
        {
            continue;
        }
        let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let kinds = ["worker", "flush", "backfill", "post-commit"];
        if let Some(kind) = kinds.into_iter().find(|kind| line.contains(kind)) {
            found.push((pid, kind));
        }
    }
    found
}

/// Kills one of those kinds again and again until told to stop, at most so many milliseconds after it was seen, at
/// most each second one; how many of each kind.
fn killer(home: &Path, kinds: &[&str], late: u64, over: &AtomicBool) -> BTreeMap<&'static str, u32> {
    let mut random = fastrand::Rng::with_seed(late);
    let mut killed = BTreeMap::new();
    while !over.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(random.u64(1..late / 2)));
        let mut there = processes(home);
        there.retain(|(_, kind)| kinds.contains(kind));
        if there.is_empty() || random.bool() {
            continue;
        }
        // Workers are the rarest.
        let any = random.usize(..there.len());
        let (pid, kind) = there.iter().find(|(_, kind)| *kind == "worker").unwrap_or(&there[any]);
        // Somewhere in the course of what it does, not at its start.
        std::thread::sleep(Duration::from_millis(random.u64(0..late)));
        if Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status().unwrap().success() {
            *killed.entry(*kind).or_default() += 1;
        }
    }
    killed
}

/// Runs a command over and over, whatever becomes of it.
fn again_and_again(mut command: Command, over: &AtomicBool) {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    while !over.load(Ordering::SeqCst) {
        command.status().unwrap();
        // Leaves the lock to a worker now and then.
        std::thread::sleep(Duration::from_millis(150));
    }
}

#[test]
fn whatever_is_killed_each_commit_has_one_record_in_the_end() {
    let emulator = Emulator::start(&["--latency-ms", "3"]);
    let world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.history(10);
    world.ok(&["install"]);
    let (over, hooks_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let home = world.home();
    let killed = std::thread::scope(|scope| {
        // A hook lives for some milliseconds, the others for some hundred.
        let hooks_over = &hooks_over;
        let hooks = scope.spawn(|| killer(&home, &["post-commit"], 4, hooks_over));
        let others = scope.spawn(|| killer(&home, &["worker", "flush", "backfill"], 50, &over));
        for words in [&["flush"][..], &["backfill"]] {
            let command = world.agent(words);
            let over = &over;
            scope.spawn(move || again_and_again(command, over));
        }
        for number in 0..80 {
            // A killed hook must not fail the commit: `commit` asserts that Git succeeded.
            world.commit(&format!("src/file{}.py", number % 5), &format!("value = {number}\n"), "Change");
            // A hook that is killed starts no worker.
            hooks_over.store(number >= 40, Ordering::SeqCst);
        }
        over.store(true, Ordering::SeqCst);
        let mut killed = others.join().unwrap();
        killed.extend(hooks.join().unwrap());
        killed
    });
    for kind in ["post-commit", "worker", "flush", "backfill"] {
        assert!(killed.get(kind).is_some_and(|count| *count >= 3), "{killed:?}");
    }
    // A hook that was killed before its first write has left nothing: history is what finds that commit.
    world.ok(&["backfill"]);
    world.ok(&["flush"]);
    let commits: BTreeSet<String> = world.git(&["rev-list", "HEAD"]).lines().map(str::to_owned).collect();
    let records: Vec<String> =
        world.records().iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(records.len(), commits.len());
    assert_eq!(records.into_iter().collect::<BTreeSet<_>>(), commits);
    world.ok(&["verify"]);
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["outbox"]["pending"], 0, "{status}");
    assert_eq!(status["outbox"]["refused"], 0, "{status}");
}

#[test]
fn a_commit_that_was_acknowledged_needs_no_backfill() {
    let emulator = Emulator::start(&[]);
    let world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.ok(&["install"]);
    let over = AtomicBool::new(false);
    let home = world.home();
    std::thread::scope(|scope| {
        // Every worker is killed, none of the hooks.
        let killer = scope.spawn(|| {
            let mut killed = 0;
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
                for (pid, kind) in processes(&home) {
                    if kind == "worker" {
                        std::thread::sleep(Duration::from_millis(fastrand::u64(0..60)));
                        let _ = Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status();
                        killed += 1;
                    }
                }
            }
            killed
        });
        for number in 0..25 {
            world.commit("a.txt", &format!("{number}\n"), "Change");
        }
        over.store(true, Ordering::SeqCst);
        assert!(killer.join().unwrap() >= 5);
    });
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 25);
}

#[test]
fn eight_clones_commit_at_once_and_start_no_stampede_of_workers() {
    let emulator = Emulator::start(&["--latency-ms", "20"]);
    let world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.commit("a.txt", "one\n", "First");
    let clones: Vec<_> = (0..8)
        .map(|number| {
            let clone = world.root().join(format!("clone{number}"));
            world.git(&["clone", "-q", ".", clone.to_str().unwrap()]);
            world.ok(&["install", "--repo", clone.to_str().unwrap()]);
            clone
        })
        .collect();
    let over = AtomicBool::new(false);
    let home = world.home();
    let most = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::SeqCst) {
                most = most.max(processes(&home).iter().filter(|(_, kind)| *kind == "worker").count());
            }
            most
        });
        let committers: Vec<_> = clones
            .iter()
            .enumerate()
            .map(|(clone_number, clone)| {
                let mut commands: Vec<_> = (0..8)
                    .map(|number| {
                        let mut command = world.git_command(&["commit", "-q", "--allow-empty", "-m"]);
                        command.arg(format!("{clone_number} {number}")).current_dir(clone);
                        command
                    })
                    .collect();
                scope.spawn(move || {
                    for command in &mut commands {
                        let start = std::time::Instant::now();
                        let output = command.output().unwrap();
                        assert!(output.status.success());
                        assert_eq!(
                            String::from_utf8_lossy(&output.stderr),
                            "",
                            "such as: database is locked"
                        );
                        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
                    }
                })
            })
            .collect();
        committers.into_iter().for_each(|committer| committer.join().unwrap());
        over.store(true, Ordering::SeqCst);
        watcher.join().unwrap()
    });
    // One at work, and one that has just let the lock go.
    assert!((1..=2).contains(&most), "{most} workers at once");
    world.ok(&["flush"]);
    let records = world.records();
    let ids: BTreeSet<&str> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!((records.len(), ids.len()), (64, 64));
    // Nor did anything fail out of sight, in the worker.
    let status = world.json(&["status", "--json"]);
    let left = ["pending", "held", "refused"].map(|state| status["outbox"][state].as_u64().unwrap());
    assert_eq!((left, &status["store"]["lastError"]), ([0, 0, 0], &serde_json::Value::Null), "{status}");
    for clone in &clones {
        world.ok(&["verify", "--repo", clone.to_str().unwrap(), "HEAD~8..HEAD"]);
    }
}
