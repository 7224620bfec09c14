//! The worker's lock and its way into the background, with real processes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gitops_agent::delivery::{WorkerLock, claim};
use gitops_agent::detach;

fn child(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]).env("DELIVERY_TEST_DIR", dir);
    command
}

fn child_dir() -> PathBuf {
    PathBuf::from(std::env::var_os("DELIVERY_TEST_DIR").unwrap())
}

/// A worker as a hook starts it: frees itself, adopts the lock, works for two seconds.
#[test]
#[ignore = "the grandchild of `a_worker_keeps_the_lock_and_nobody_waiting`"]
fn child_worker() {
    detach::become_daemon().unwrap();
    let lock = WorkerLock::adopt(&child_dir(), detach::take_stdin().unwrap()).unwrap().unwrap();
    let environment = std::env::var_os("GIT_DIR").map_or("clean", |_| "GIT_DIR leaked");
    std::fs::write(child_dir().join("worker-says"), environment).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    drop(lock);
}

/// A hook: takes the lock, hands it to a worker and leaves.
#[test]
#[ignore = "the child of `a_worker_keeps_the_lock_and_nobody_waiting`"]
fn child_hook() {
    let lock = claim(&child_dir()).unwrap().unwrap();
    let exe = std::env::current_exe().unwrap();
    detach::spawn_worker(&exe, &["--exact", "child_worker", "--ignored"], lock.into_file()).unwrap();
}

#[test]
fn a_worker_keeps_the_lock_and_nobody_waiting() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let start = Instant::now();
    // A shell gives the hook a second way to the pipe, as descriptor 7, the way a GUI may.
    let mut hook = Command::new("sh")
        .args(["-c", "exec 7>&1; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_hook", "--ignored"])
        .env("DELIVERY_TEST_DIR", dir)
        .env("GIT_DIR", "/somewhere/.git")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = String::new();
    hook.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(hook.wait().unwrap().success(), "{output}");
    assert!(start.elapsed() < Duration::from_millis(2000), "the pipe was held for {:?}", start.elapsed());
    assert!(WorkerLock::try_acquire(dir).unwrap().is_none(), "the lock went over with the worker");
    let waited = WorkerLock::wait(dir, Some(Duration::from_secs(10))).unwrap();
    assert!(waited.is_some() && start.elapsed() > Duration::from_millis(2400));
    assert_eq!(std::fs::read_to_string(dir.join("worker-says")).unwrap(), "clean");
    assert_eq!(WorkerLock::holder(dir), Some(std::process::id()));
}

/// Holds the lock until it is killed.
#[test]
#[ignore = "the child of `a_killed_worker_frees_the_lock`"]
fn child_holder() {
    let _lock = WorkerLock::try_acquire(&child_dir()).unwrap().unwrap();
    File::create(child_dir().join("ready")).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_worker_frees_the_lock() {
    let home = tempfile::tempdir().unwrap();
    let mut holder = child("child_holder", home.path()).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !home.path().join("ready").exists() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(WorkerLock::wait(home.path(), Some(Duration::from_millis(100))).unwrap().is_none());
    assert_eq!(WorkerLock::holder(home.path()), Some(holder.id()));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(WorkerLock::try_acquire(home.path()).unwrap().is_some());
}
