//! A hook never takes longer than its limit, whatever the commit and whatever hangs beneath it; what it could not
//! judge by then is noted, and the worker judges it.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gitops_agent::time_limit::HOOK;
use serde_json::Value;

use world::{World, wait_for};

/// What a machine that is busy with other tests may add.
const SLACK: Duration = Duration::from_secs(5);

fn within_the_limit(start: Instant) {
    assert!(start.elapsed() < HOOK + SLACK, "{:?}", start.elapsed());
}

fn silent(output: &Output) {
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// The notes in a spool folder, read.
fn notes(folder: &Path) -> Vec<Value> {
    let files = std::fs::read_dir(folder).into_iter().flatten().map(|file| file.unwrap().path());
    let notes = files.filter(|path| path.extension().is_some_and(|end| end == "note"));
    notes.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

/// Puts a pipe that nobody writes to in the place of an object: reading it never ends.
fn hang(world: &World, object: &str) -> (PathBuf, PathBuf) {
    let path = world.repo().join(".git/objects").join(&object[..2]).join(&object[2..]);
    let aside = world.root().join("object");
    std::fs::rename(&path, &aside).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    (aside, path)
}

/// A commit that no hook has seen, and its blob.
fn unseen(world: &World, text: &str) -> (String, String) {
    std::fs::write(world.repo().join("a.txt"), text).unwrap();
    world.git(&["add", "-A"]);
    world.git(&["commit", "-q", "-m", text]);
    (world.git(&["rev-parse", "HEAD"]), world.git(&["rev-parse", "HEAD:a.txt"]))
}

#[test]
fn a_read_that_never_ends_costs_the_limit_and_the_commit_is_recorded_later() {
    let world = World::new();
    let (id, blob) = unseen(&world, "one");
    let (aside, path) = hang(&world, &blob);
    let start = Instant::now();
    silent(&world.output(&["hook", "post-commit"]));
    within_the_limit(start);
    assert!(start.elapsed() >= HOOK, "it hung: {:?}", start.elapsed());
    let noted = notes(&world.home().join("spool"));
    assert_eq!(noted.len(), 1);
    assert_eq!(noted[0]["commits"][0]["id"], id.as_str());
    assert_eq!(noted[0]["branch"], "main");
    // The disk answers again: the worker that the hook left behind may hang in the pipe, so it is ended as the
    // kernel would end it with the mount.
    let worker = wait_for(10, "a worker", || gitops_agent::delivery::WorkerLock::holder(&world.home()));
    Command::new("kill").args(["-9", &worker.to_string()]).status().unwrap();
    std::fs::rename(aside, path).unwrap();
    world.ok(&["flush"]);
    let records = world.records();
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["id"], &records[0]["source"]), (&id.into(), &"post-commit".into()));
    assert_eq!(records[0]["complete"], true);
    assert_eq!(notes(&world.home().join("spool")).len(), 0);
    world.ok(&["verify"]);
}

#[test]
fn where_the_home_cannot_be_written_the_repository_takes_the_note() {
    let mut world = World::new();
    let (id, blob) = unseen(&world, "one");
    let blocked = world.root().join("blocked");
    std::fs::write(&blocked, "").unwrap();
    let home = world.home();
    world.set("GITOPS_AGENT_HOME", blocked.to_str().unwrap());
    let (aside, path) = hang(&world, &blob);
    let start = Instant::now();
    silent(&world.output(&["hook", "post-commit"]));
    within_the_limit(start);
    std::fs::rename(aside, path).unwrap();
    let spool = world.repo().join(".git/gitops-agent/spool");
    assert_eq!(notes(&spool).len(), 1);
    for path in [spool.parent().unwrap(), &spool] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
    }
    world.set("GITOPS_AGENT_HOME", home.to_str().unwrap());
    world.ok(&["flush"]);
    assert_eq!(world.records().iter().map(|record| &record["id"]).collect::<Vec<_>>(), [id.as_str()]);
}

/// Nobody can keep anything: one line, and the commit stands.
#[test]
fn where_nothing_can_be_noted_one_line_says_so() {
    let mut world = World::new();
    let (_, blob) = unseen(&world, "one");
    let blocked = world.root().join("blocked");
    std::fs::write(&blocked, "").unwrap();
    std::fs::write(world.repo().join(".git/gitops-agent"), "").unwrap();
    let home = world.home();
    world.set("GITOPS_AGENT_HOME", blocked.to_str().unwrap());
    let (aside, path) = hang(&world, &blob);
    let start = Instant::now();
    let output = world.output(&["hook", "post-commit"]);
    within_the_limit(start);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(0), 1), "{said}");
    assert!(said.starts_with("gitops-agent: ") && said.contains("verify"), "{said}");
    std::fs::rename(aside, path).unwrap();
    world.set("GITOPS_AGENT_HOME", home.to_str().unwrap());
    assert_eq!(world.fails(&["verify"]).0, 1, "it is named");
    world.ok(&["backfill"]);
    world.ok(&["verify"]);
}

/// A push whose first ref hangs: the commits of the refs behind it are noted too, each with its own branch.
#[test]
fn a_push_that_hangs_at_its_first_ref_loses_none_of_the_others() {
    let world = World::new();
    let (first, blob) = unseen(&world, "one");
    world.git(&["checkout", "-q", "--orphan", "other"]);
    let (second, _) = unseen(&world, "two");
    let (aside, path) = hang(&world, &blob);
    let zero = "0".repeat(40);
    let lines = format!("{zero} {first} refs/heads/main\n{zero} {second} refs/heads/other\n");
    let input = world.root().join("input");
    std::fs::write(&input, lines).unwrap();
    let start = Instant::now();
    let mut hook = world.agent(&["hook", "post-receive"]);
    silent(&hook.stdin(std::fs::File::open(&input).unwrap()).output().unwrap());
    within_the_limit(start);
    let noted = notes(&world.home().join("spool"));
    let mut seen: Vec<(&str, &str)> = noted
        .iter()
        .map(|note| (note["branch"].as_str().unwrap(), note["commits"][0]["id"].as_str().unwrap()))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [("main", first.as_str()), ("other", second.as_str())]);
    let worker = wait_for(10, "a worker", || gitops_agent::delivery::WorkerLock::holder(&world.home()));
    Command::new("kill").args(["-9", &worker.to_string()]).status().unwrap();
    std::fs::rename(aside, path).unwrap();
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 2);
}

/// A note of several commits, of which one is gone for good: the others are judged all the same.
#[test]
fn a_noted_commit_that_is_gone_does_not_keep_the_others() {
    let world = World::new();
    let (id, _) = unseen(&world, "one");
    let note = serde_json::json!({
        "gitDir": world.repo().join(".git"), "source": "post-rewrite", "branch": "main",
        "commits": [{"id": "1".repeat(40)}, {"id": id}], "notedAt": "2026-01-01T00:00:00Z",
    });
    let spool = world.home().join("spool");
    std::fs::create_dir_all(&spool).unwrap();
    std::fs::write(spool.join("0-1-0.note"), note.to_string()).unwrap();
    let output = world.output(&["flush"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be recorded yet"));
    assert_eq!(world.records().len(), 1);
    assert_eq!(notes(&spool).len(), 1, "a person can see what it was");
}
