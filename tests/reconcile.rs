//! Commits that no hook announces are found; those of others, of history, of a switched-off agent and the
//! discarded ones are not brought in.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::collections::BTreeMap;
use std::path::Path;

use world::{World, wait_for};

/// Commits by plumbing alone and moves a branch there; the commit's id.
fn plumb(world: &World, branch: &str, message: &str) -> String {
    let reference = format!("refs/heads/{branch}");
    let parent = world.git_command(&["rev-parse", "-q", "--verify", &reference]).output().unwrap();
    let parent = String::from_utf8(parent.stdout).unwrap().trim().to_owned();
    let tree = world.git(&["mktree"]);
    let mut words = vec!["commit-tree", &tree, "-m", message];
    if !parent.is_empty() {
        words.extend(["-p", &parent]);
    }
    let id = world.git(&words);
    world.git(&["update-ref", &reference, &id]);
    id
}

/// Commits with every hook switched off.
fn unhooked(world: &World, words: &[&str]) -> String {
    unhooked_in(world, ".", words)
}

/// As [`unhooked`], in another folder.
fn unhooked_in(world: &World, folder: &str, words: &[&str]) -> String {
    let mut all = vec!["-C", folder, "-c", "core.hooksPath=/dev/null", "commit", "-q", "--allow-empty"];
    all.extend(words);
    world.git(&all);
    world.git(&["-C", folder, "rev-parse", "HEAD"])
}

/// Source of each record, by commit.
fn sources(world: &World) -> BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    world.records().iter().map(|record| (text(&record["id"]), text(&record["source"]))).collect()
}

/// The only repository that `status` knows.
fn coverage(world: &World) -> serde_json::Value {
    let status = world.json(&["status", "--json"]);
    let repositories = status["repositories"].as_array().unwrap();
    assert_eq!(repositories.len(), 1, "{status}");
    repositories[0].clone()
}

/// A clone of the world's repository beside it.
fn clone(world: &World, name: &str) -> String {
    let path = world.root().join(name).to_str().unwrap().to_owned();
    world.git(&["clone", "-q", ".", &path]);
    path
}

/// A commit in another repository; its id.
fn commit_in(world: &World, path: &str, message: &str) -> String {
    world.git(&["-C", path, "commit", "-q", "--allow-empty", "-m", message]);
    world.git(&["-C", path, "rev-parse", "HEAD"])
}

#[test]
fn what_came_before_the_installation_is_history_and_the_rest_is_found() {
    let world = World::new();
    for number in 0..3 {
        world.commit("a.txt", &format!("{number}\n"), "Old");
    }
    world.ok(&["install"]);
    let hooked = world.commit("a.txt", "hooked\n", "By hook");
    let plumbed = plumb(&world, "main", "By plumbing");
    let other = plumb(&world, "other", "A root of its own");
    world.ok(&["flush"]);
    let found = sources(&world);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[&hooked], "post-commit");
    assert_eq!(found[&plumbed], "reconcile");
    assert_eq!(found[&other], "reconcile");
    for record in world.records().iter().filter(|record| record["id"] != hooked.as_str()) {
        let branch = if record["id"] == plumbed.as_str() { "main" } else { "other" };
        assert_eq!(record["repository"]["branch"], branch);
    }
    assert_eq!(coverage(&world)["uncaptured"], 3);
    assert_eq!(coverage(&world)["recorded"], 3);
    world.ok(&["backfill"]);
    assert_eq!(coverage(&world)["uncaptured"], 0);
    assert_eq!(coverage(&world)["recorded"], 6);
    world.ok(&["verify", "--all"]);
    // Installing again moves nothing.
    let late = plumb(&world, "main", "Late");
    world.ok(&["install"]);
    world.ok(&["flush"]);
    assert_eq!(sources(&world)[&late], "reconcile");
}

#[test]
fn hooks_off_is_found_later_and_the_agent_off_is_never() {
    let mut world = World::new();
    world.commit("a.txt", "one\n", "Old");
    world.ok(&["install"]);
    world.set("GITOPS_AGENT", "0");
    let quiet = world.commit("a.txt", "two\n", "Quiet");
    world.unset("GITOPS_AGENT");
    let unhooked = unhooked(&world, &["-m", "Unhooked"]);
    world.ok(&["flush"]);
    assert_eq!(sources(&world).into_keys().collect::<Vec<_>>().len(), 2);
    assert_eq!(sources(&world)[&quiet], "reconcile");
    assert_eq!(sources(&world)[&unhooked], "reconcile");

    world.git(&["config", "gitops-agent.enabled", "false"]);
    world.commit("a.txt", "three\n", "Off, with hooks");
    world.ok(&["flush"]);
    self::unhooked(&world, &["-m", "Off, without hooks"]);
    world.ok(&["flush"]);
    assert_eq!(sources(&world).len(), 2);
    world.commit("a.txt", "four\n", "Off, and no look until it is on again");
    world.git(&["config", "--unset", "gitops-agent.enabled"]);
    world.ok(&["flush"]);
    assert_eq!(sources(&world).len(), 2);
    let on = plumb(&world, "main", "On");
    world.ok(&["flush"]);
    let found = sources(&world);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[&on], "reconcile");
}

#[test]
fn commits_of_others_are_not_queued_and_verify_names_them() {
    let world = World::new();
    world.commit("a.txt", "one\n", "Old");
    let theirs = clone(&world, "theirs");
    world.git(&["remote", "add", "origin", &theirs]);
    world.git(&["fetch", "-q", "origin"]);
    world.git(&["branch", "-q", "-u", "origin/main"]);
    world.ok(&["install"]);

    let forward = commit_in(&world, &theirs, "Theirs, pulled by fast-forward");
    world.git(&["pull", "-q", "--ff-only"]);
    let ours = unhooked(&world, &["-m", "Ours"]);
    let merged = commit_in(&world, &theirs, "Theirs, merged");
    world.git(&["-c", "core.hooksPath=/dev/null", "pull", "-q", "--no-rebase", "--no-edit"]);
    let merge = world.git(&["rev-parse", "HEAD"]);
    // By address, which updates no remote-tracking ref; and checked out only.
    world.git(&["-C", &theirs, "checkout", "-q", "-b", "side"]);
    let addressed = commit_in(&world, &theirs, "Theirs, fetched by address");
    world.git(&["fetch", "-q", &theirs, "side:review"]);
    let looked_at = commit_in(&world, &theirs, "Theirs, looked at");
    world.git(&["fetch", "-q", &theirs, "side"]);
    world.git(&["checkout", "-q", "FETCH_HEAD"]);
    world.git(&["checkout", "-q", "main"]);

    world.ok(&["flush"]);
    let found = sources(&world);
    assert_eq!(found.keys().collect::<Vec<_>>(), {
        let mut own = vec![&ours, &merge];
        own.sort();
        own
    });
    let mut expected = vec![forward.clone(), merged.clone(), addressed.clone()];
    expected.sort();
    let output = world.output(&["verify", "--all", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["fetched"], serde_json::json!(expected), "{report}");
    // The commit before the installation is missing too, and not from elsewhere.
    assert_eq!(report["missing"].as_array().unwrap().len(), 4);
    assert!(world.git(&["cat-file", "-t", &looked_at]) == "commit");

    // What was pushed by us is ours, though origin has it.
    let pushed = plumb(&world, "main", "Pushed");
    world.git(&["-c", "core.hooksPath=/dev/null", "push", "-q", "origin", "main:elsewhere"]);
    world.git(&["fetch", "-q", "origin"]);
    world.ok(&["flush"]);
    assert_eq!(sources(&world)[&pushed], "reconcile");
    assert_eq!(sources(&world).len(), 3);
}

#[test]
fn a_repository_of_a_global_installation_begins_with_its_first_commit() {
    let mut world = World::new();
    let config = world.root().join("gitconfig");
    std::fs::write(&config, "").unwrap();
    world.set("GIT_CONFIG_GLOBAL", config.to_str().unwrap());
    world.commit("a.txt", "one\n", "Old");
    unhooked(&world, &["-m", "Old too"]);
    world.ok(&["install", "--global"]);
    let first = world.commit("a.txt", "two\n", "First");
    let second = unhooked(&world, &["-m", "Second"]);
    let third = plumb(&world, "main", "Third");
    world.ok(&["flush"]);
    let found = sources(&world);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[&first], "post-commit");
    assert_eq!((found[&second].as_str(), found[&third].as_str()), ("reconcile", "reconcile"));
    assert_eq!(coverage(&world)["uncaptured"], 2);

    // A command is a beginning too, also where backfill has been.
    let other = clone(&world, "other");
    world.ok(&["backfill", "--repo", &other]);
    let verify = |world: &World| world.agent(&["verify"]).current_dir(&other).output().unwrap();
    verify(&world);
    let new = unhooked_in(&world, &other, &["-m", "New"]);
    verify(&world);
    world.ok(&["flush"]);
    assert_eq!(sources(&world)[&new], "reconcile");
    assert_eq!(sources(&world).len(), 6);
}

#[test]
fn a_discarded_commit_stays_discarded_and_uninstalling_ends_it_all() {
    let mut world = World::new();
    world.set("COSMOS_ENDPOINT", "http://127.0.0.1:9");
    world.set("GITOPS_AGENT_CREDENTIAL", "key");
    world.ok(&["install"]);
    let unwanted = unhooked(&world, &["-m", "Unwanted"]);
    world.output(&["flush", "--timeout", "10"]);
    world.ok(&["outbox", "discard", &unwanted, "--yes"]);
    plumb(&world, "main", "Wanted");
    world.output(&["flush", "--timeout", "10"]);
    let status = world.json(&["status", "--json"]);
    assert_eq!(
        (&status["outbox"]["held"], &status["outbox"]["discarded"]),
        (&1.into(), &1.into()),
        "{status}"
    );
    world.ok(&["uninstall"]);
    plumb(&world, "main", "After");
    world.output(&["flush", "--timeout", "10"]);
    assert_eq!(world.json(&["status", "--json"])["outbox"]["held"], 1);
}

#[test]
fn an_amended_commit_is_recorded_and_one_that_is_gone_is_reported() {
    let world = World::new();
    world.commit("a.txt", "one\n", "Old");
    world.ok(&["install"]);
    let first = unhooked(&world, &["-m", "First"]);
    let amended = unhooked(&world, &["--amend", "-m", "Amended"]);
    world.ok(&["flush"]);
    let records = world.records();
    assert_eq!(records.len(), 2);
    let record = records.iter().find(|record| record["id"] == amended.as_str()).unwrap();
    assert_eq!(record["supersedes"], serde_json::json!([first]));

    let gone = unhooked(&world, &["-m", "Gone"]);
    unhooked(&world, &["--amend", "-m", "Stays"]);
    let object = world.repo().join(".git/objects").join(&gone[..2]).join(&gone[2..]);
    std::fs::remove_file(object).unwrap();
    let flush = world.output(&["flush"]);
    assert!(String::from_utf8_lossy(&flush.stderr).contains(&gone), "{flush:?}");
    world.ok(&["backfill"]);
    assert_eq!(world.json(&["verify", "--json"])["lost"], serde_json::json!([gone]));
    assert_eq!(coverage(&world)["lost"], 1);
    assert!(world.ok(&["status"]).contains("1 commit was never recorded and is gone"));
}

#[test]
fn worktrees_submodules_and_bare_repositories_are_looked_at() {
    let world = World::new();
    world.commit("a.txt", "one\n", "Old");
    let bare = world.root().join("bare.git").to_str().unwrap().to_owned();
    world.git(&["clone", "-q", "--bare", ".", &bare]);
    world.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &bare, "sub"]);
    world.git(&["commit", "-q", "-m", "Add a submodule"]);
    let tree = world.root().join("tree").to_str().unwrap().to_owned();
    world.git(&["worktree", "add", "-q", "--detach", &tree]);
    let places = [world.repo().to_str().unwrap().to_owned(), bare, format!("{}/sub", world.repo().display())];
    for place in &places {
        world.ok(&["install", "--repo", place]);
    }
    let mut expected = Vec::new();
    for place in places.iter().chain([&tree]) {
        let empty = world.git(&["-C", place, "mktree"]);
        let id = world.git(&["-C", place, "commit-tree", &empty, "-p", "HEAD", "-m", place]);
        world.git(&["-C", place, "update-ref", "HEAD", &id]);
        expected.push(id);
    }
    // Made in the linked worktree, and left there.
    expected.push(unhooked_in(&world, &tree, &["-m", "Left"]));
    world.git(&["-C", &tree, "checkout", "-q", "--detach", "HEAD~2"]);
    world.agent(&["flush"]).current_dir(world.root()).output().unwrap();
    expected.sort();
    assert_eq!(sources(&world).into_keys().collect::<Vec<_>>(), expected);
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["repositories"].as_array().unwrap().len(), 3, "one line for all worktrees: {status}");
}

#[test]
fn the_worker_finds_them_without_being_asked() {
    let world = World::new();
    world.ok(&["install"]);
    let other = clone(&world, "other");
    world.ok(&["install", "--repo", &other]);
    let here = plumb(&world, "main", "Here");
    let there = unhooked_in(&world, &other, &["-m", "There"]);
    world.git(&["commit", "-q", "--allow-empty", "-m", "Starts the worker"]);
    wait_for(30, "reconciliation", || {
        let found = sources(&world);
        (found.contains_key(&here) && found.contains_key(&there)).then_some(())
    });
}

/// A branch with so many new commits, made without any hook.
fn import(world: &World, count: usize) {
    let mut stream = String::new();
    for number in 1..=count {
        let from = if number > 1 { format!("\nfrom :{}", number - 1) } else { String::new() };
        stream.push_str(&format!(
            "commit refs/heads/imported\nmark :{number}\ncommitter C <c@d> {number} +0000\ndata 1\nx{from}\n\n"
        ));
    }
    let file = world.root().join("stream");
    std::fs::write(&file, stream).unwrap();
    let mut command = world.git_command(&["fast-import", "--quiet"]);
    assert!(command.stdin(std::fs::File::open(file).unwrap()).status().unwrap().success());
}

#[test]
fn an_import_of_many_commits_is_recorded_in_slices() {
    let world = World::new();
    world.ok(&["install"]);
    import(&world, 1500);
    // The worker takes 1000 and goes on.
    world.git(&["commit", "-q", "--allow-empty", "-m", "Starts the worker"]);
    wait_for(60, "reconciliation", || {
        (world.json(&["status", "--json"])["delivered"]["total"] == 1501).then_some(())
    });
    world.ok(&["verify", "--all"]);
}

#[test]
fn a_look_that_is_killed_loses_nothing() {
    let world = World::new();
    world.ok(&["install"]);
    import(&world, 1500);
    let mut flush = world.agent(&["flush", "-q"]).spawn().unwrap();
    wait_for(60, "the first batch", || {
        let status = world.json(&["status", "--json"]);
        (status["outbox"]["pending"] != 0 || status["delivered"]["total"] != 0).then_some(())
    });
    flush.kill().unwrap();
    flush.wait().unwrap();
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 1500);
    world.ok(&["verify", "--all"]);
}

#[test]
fn an_outbox_of_version_1_is_brought_forward() {
    let world = World::new();
    world.commit("a.txt", "one\n", "Old");
    world.ok(&["install"]);
    for name in ["outbox.db", "outbox.db-wal", "outbox.db-shm"] {
        let _ = std::fs::remove_file(world.home().join(name));
    }
    let connection = rusqlite::Connection::open(world.home().join("outbox.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(include_str!("../src/outbox/schema.sql")).unwrap();
    let path = format!("{}/", world.repo().display());
    connection
        .execute(
            "INSERT INTO repositories (path, repository_id, seen_at) VALUES (CAST(?1 AS BLOB), 'x', 1)",
            [path],
        )
        .unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);
    assert_eq!(coverage(&world)["hook"], "active");
    let new = world.commit("a.txt", "two\n", "New");
    let found = plumb(&world, "main", "Found");
    world.ok(&["flush"]);
    let mut expected = [new, found];
    expected.sort();
    assert_eq!(sources(&world).into_keys().collect::<Vec<_>>(), expected);
    assert_eq!(coverage(&world)["history"], 1);
}

#[test]
fn gone_repositories_are_shown_as_what_they_are() {
    let world = World::new();
    world.commit("a.txt", "one\n", "Old");
    world.ok(&["install"]);
    world.commit("a.txt", "two\n", "New");
    world.ok(&["flush"]);
    std::fs::rename(world.repo(), world.root().join("moved")).unwrap();
    let row = coverage(&world);
    assert_eq!(
        (&row["state"], &row["hook"], &row["recorded"]),
        (&"gone".into(), &"missing".into(), &1.into())
    );
    assert!(row["uncaptured"].is_null(), "{row}");
    assert!(Path::new(row["path"].as_str().unwrap()).ends_with("repo"));
    world.ok(&["status", "--check"]);
}

#[test]
fn a_repository_around_a_gone_one_is_not_taken_for_it() {
    let world = World::new();
    world.commit("a.txt", "one\n", "Old");
    let inner = world.repo().join("inner");
    world.git(&["init", "-q", inner.to_str().unwrap()]);
    world.ok(&["install", "--repo", inner.to_str().unwrap()]);
    std::fs::remove_dir_all(&inner).unwrap();
    plumb(&world, "main", "Of the outer one, where nothing is installed");
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 0);
    let row = coverage(&world);
    assert_eq!((&row["state"], &row["recorded"]), (&"gone".into(), &0.into()), "{row}");
}
