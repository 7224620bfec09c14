//! `git commit` with the hook succeeds, says nothing and returns at once, whatever is wrong around it; and
//! the commit is recorded once it is mended.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::{Duration, Instant};

use world::{EMULATOR_KEY, Emulator, World, wait_for};

/// A store that hangs would hold a commit for the SDK's whole timeout; ours is far below.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Commits with everything captured, as a GUI does: returns only when all descriptors are closed.
fn commit(world: &World, message: &str) -> Output {
    let start = Instant::now();
    let output = world.git_command(&["commit", "-q", "--allow-empty", "-m", message]).output().unwrap();
    assert!(start.elapsed() < AT_ONCE, "the commit took {:?}", start.elapsed());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn silent(output: &Output) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn an_endpoint_that_refuses_keeps_the_record_pending() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let world = World::with_cosmos(&endpoint, "clinic-a");
    world.ok(&["install"]);
    silent(&commit(&world, "One"));
    let (code, message) = world.fails(&["flush", "--timeout", "20"]);
    assert_eq!(code, 3, "{message}");
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["outbox"]["pending"], 1, "{status}");
    assert_eq!(status["outbox"]["refused"], 0);
}

#[test]
fn a_store_that_hangs_does_not_hold_the_commit() {
    // Accepts by the backlog and never answers.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hanging.local_addr().unwrap());
    let world = World::with_cosmos(&endpoint, "clinic-a");
    world.ok(&["install"]);
    silent(&commit(&world, "One"));
    silent(&commit(&world, "Two"));
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["outbox"]["pending"], 2, "{status}");
    // The store's end lets the worker end too.
    drop(hanging);
}

#[test]
fn a_record_made_while_the_store_was_away_arrives_later() {
    let emulator = Emulator::start(&[]);
    let mut world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.ok(&["install"]);
    world.set("COSMOS_KEY", "");
    world.set("GITOPS_AGENT_CREDENTIAL", "key");
    silent(&commit(&world, "One"));
    wait_for(30, "a held record", || {
        (world.json(&["status", "--json"])["outbox"]["held"] == 1).then_some(())
    });
    assert_eq!(world.output(&["flush"]).status.code(), Some(4));
    assert_eq!(world.output(&["status", "--check"]).status.code(), Some(1));
    world.set("COSMOS_KEY", EMULATOR_KEY);
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 1);
    world.ok(&["status", "--check"]);
}

#[test]
fn without_a_tenant_records_for_cosmos_are_held_until_one_is_set() {
    let emulator = Emulator::start(&[]);
    let mut world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.ok(&["install"]);
    world.unset("GITOPS_AGENT_TENANT");
    silent(&commit(&world, "One"));
    assert_eq!(world.output(&["flush"]).status.code(), Some(4));
    assert_eq!(world.json(&["status", "--json"])["outbox"]["held"], 1);
    world.set("GITOPS_AGENT_TENANT", "clinic-b");
    world.ok(&["flush"]);
    let records = world.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["tenantId"], "clinic-b");
}

#[test]
fn a_home_that_cannot_be_written_spools_into_the_repository() {
    let mut world = World::new();
    world.ok(&["install"]);
    // Root ignores permissions: a file where the folder should be stops anybody.
    let blocked = world.root().join("blocked");
    std::fs::write(&blocked, "").unwrap();
    let home = world.home();
    world.set("GITOPS_AGENT_HOME", blocked.to_str().unwrap());
    silent(&commit(&world, "One"));
    let spool = world.repo().join(".git/gitops-agent");
    let folder_mode = std::fs::metadata(&spool).unwrap().permissions().mode();
    assert_eq!(folder_mode & 0o777, 0o700);
    world.set("GITOPS_AGENT_HOME", home.to_str().unwrap());
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 1);
}

#[test]
fn bad_settings_note_the_commit_and_record_it_when_they_are_mended() {
    for (name, bad) in [
        ("GITOPS_AGENT_TENANT", "not a tenant!"),
        ("GITOPS_AGENT_RULES", "/nowhere/at/all"),
        ("COSMOS_ENDPOINT", "ftp://example.com"),
    ] {
        let mut world = World::new();
        world.ok(&["install"]);
        world.set(name, bad);
        let output = commit(&world, "One");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("gitops-agent: "), "{stderr}");
        world.unset(name);
        world.ok(&["flush"]);
        let records = world.records();
        assert_eq!(records.len(), 1, "{name}");
        assert_eq!(records[0]["source"], "post-commit");
        assert_eq!(records[0]["repository"]["branch"], "main");
    }
}

#[test]
fn a_damaged_outbox_does_not_cost_the_commit() {
    let world = World::new();
    world.ok(&["install"]);
    std::fs::write(world.home().join("outbox.db"), vec![0x5a_u8; 8192]).unwrap();
    for leftover in ["outbox.db-wal", "outbox.db-shm"] {
        let _ = std::fs::remove_file(world.home().join(leftover));
    }
    silent(&commit(&world, "One"));
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 1);
    let set_aside = std::fs::read_dir(world.home())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"))
        .count();
    assert!(set_aside >= 1, "the damaged bytes are kept");
}

#[test]
fn the_agent_switched_off_records_nothing() {
    let mut world = World::new();
    world.ok(&["install"]);
    world.set("GITOPS_AGENT", "0");
    silent(&commit(&world, "One"));
    world.unset("GITOPS_AGENT");
    world.git(&["config", "gitops-agent.enabled", "false"]);
    silent(&commit(&world, "Two"));
    assert_eq!(world.json(&["status", "--json"])["outbox"]["pending"], 0);
    assert_eq!(world.records().len(), 0);
}

#[test]
fn a_binary_that_is_gone_is_silent_success() {
    let world = World::new();
    let copy = world.root().join("gitops-agent");
    std::fs::copy(world::agent(), &copy).unwrap();
    let status = std::process::Command::new(&copy)
        .args(["install", "--repo", world.repo().to_str().unwrap()])
        .env("GITOPS_AGENT_HOME", world.home())
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::remove_file(copy).unwrap();
    silent(&commit(&world, "One"));
}

#[test]
fn many_commits_at_once_in_many_worktrees_are_all_recorded() {
    let world = World::new();
    world.commit("a.txt", "one\n", "One");
    world.ok(&["install"]);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let path = world.root().join(format!("tree{worker}"));
            world.git(&["worktree", "add", "-q", "-b", &format!("b{worker}"), path.to_str().unwrap()]);
            let mut commands: Vec<_> = (0..10)
                .map(|number| {
                    let mut command = world.git_command(&["commit", "-q", "--allow-empty", "-m"]);
                    command.arg(format!("{worker} {number}")).current_dir(&path);
                    command
                })
                .collect();
            scope.spawn(move || {
                for command in &mut commands {
                    assert!(command.status().unwrap().success());
                }
            });
        }
    });
    world.ok(&["flush"]);
    let records = world.records();
    assert_eq!(records.len(), 40);
    // All worktrees are one repository, by id and by name.
    let name = world.repo().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(
        records.iter().all(|record| record["repository"]["name"] == name),
        "{}",
        records[0]["repository"]
    );
}

#[test]
fn a_rebase_of_a_hundred_commits_is_recorded_whole() {
    let world = World::new();
    world.commit("a.txt", "one\n", "One");
    world.git(&["checkout", "-q", "-b", "side"]);
    for number in 0..100 {
        world.git(&["commit", "-q", "--allow-empty", "-m", &format!("Number {number}")]);
    }
    let old: Vec<String> = world.git(&["rev-list", "main..side"]).lines().map(str::to_owned).collect();
    world.git(&["checkout", "-q", "main"]);
    world.commit("b.txt", "two\n", "Two");
    world.git(&["checkout", "-q", "side"]);
    world.ok(&["install"]);
    let output = world.git_command(&["rebase", "-q", "main"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.ok(&["flush"]);
    let new = world.git(&["rev-list", "main..side"]);
    let records = world.records();
    assert_eq!((new.lines().count(), records.len()), (100, 100));
    for (new, old) in new.lines().zip(&old) {
        let record = records.iter().find(|record| record["id"] == new).unwrap();
        assert_eq!(record["supersedes"], serde_json::json!([old]));
        assert_eq!(record["repository"]["branch"], "side");
    }
}

/// The middle of eleven commits that a caller waits for until every descriptor of theirs is closed.
fn waited_for(world: &World, script: &str) -> Duration {
    let mut times: Vec<Duration> = (0..11)
        .map(|_| {
            let start = Instant::now();
            let output = world.shell(script).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            start.elapsed()
        })
        .collect();
    times.sort();
    times[5]
}

#[test]
fn callers_that_read_the_output_do_not_wait_for_a_store_that_hangs() {
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hanging.local_addr().unwrap());
    let world = World::with_cosmos(&endpoint, "clinic-a");
    let piped = "git commit --allow-empty -m piped 2>&1 | cat > /dev/null";
    let captured = "text=$(git commit --allow-empty -m captured 2>&1); test -n \"$text\"";
    let plain = (waited_for(&world, piped), waited_for(&world, captured));
    world.ok(&["install"]);
    let hooked = (waited_for(&world, piped), waited_for(&world, captured));
    // The hook of an unoptimised build starts in the time of a few commits; the store's answer would take
    // thousands.
    assert!(hooked.0 < plain.0 * 20, "piped: {hooked:?} with the hook, {plain:?} without");
    assert!(hooked.1 < plain.1 * 20, "captured: {hooked:?} with the hook, {plain:?} without");
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["outbox"]["pending"], 22, "{status}");
    drop(hanging);
}

#[test]
fn a_spool_file_that_cannot_be_set_aside_is_named_and_keeps_nobody() {
    let world = World::new();
    world.ok(&["install"]);
    let id = world.commit("a.txt", "a\n", "One");
    world.delivered(&id);
    let spool = world.home().join("spool");
    std::fs::write(spool.join("damaged"), "in the way of the folder").unwrap();
    let stuck = spool.join("00000000000000000001-1-1.spool");
    std::fs::write(&stuck, "no record\n").unwrap();
    std::fs::set_permissions(&stuck, std::fs::Permissions::from_mode(0o600)).unwrap();
    let start = Instant::now();
    let output = world.output(&["flush", "--timeout", "60"]);
    assert!(start.elapsed() < Duration::from_secs(20), "flush took {:?}", start.elapsed());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("00000000000000000001-1-1.spool"), "{said}");
    assert!(stuck.exists(), "it is the only copy");
    let id = world.commit("a.txt", "b\n", "Two");
    world.delivered(&id);
}
