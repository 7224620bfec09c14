//! The main job, whole: a commit becomes a record in the store, from the hook and from history, in the
//! local store and in Cosmos DB.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use world::{EMULATOR_KEY, Emulator, World, wait_for};

fn ids(records: &[Value]) -> BTreeSet<String> {
    records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_commit_becomes_a_record_in_the_local_store() {
    let world = World::new();
    world.ok(&["install"]);
    let id = world.commit("src/login.py", "def login(user):\n    return check(user)\n", "Add login");
    let record = world.delivered(&id);
    assert_eq!(record["tenantId"], "local");
    assert_eq!(record["commitHash"], id);
    assert_eq!(record["commitDate"], "2023-11-14");
    assert_eq!(record["timestamp"], "2023-11-14T23:13:20Z");
    assert_eq!(record["source"], "post-commit");
    assert_eq!(record["author"]["email"], "Ada@example.com");
    assert_eq!(record["committer"]["name"], "Carl Committer");
    assert_eq!(record["filesChanged"][0]["path"], "src/login.py");
    assert_eq!(record["stats"]["insertions"], 2);
    assert_eq!(record["ttl"], 220_924_800);
    assert_eq!(record["repository"]["branch"], "main");
    assert_eq!(record["complete"], true);
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["outbox"]["pending"], 0);
    assert_eq!(status["delivered"]["total"], 1);
    assert_eq!(status["repositories"][0]["hook"], "active");
    assert_eq!(status["repositories"][0]["uncaptured"], 0);
    assert_eq!(status["health"], "ok");
    world.ok(&["verify"]);
}

#[test]
fn the_hook_prints_nothing_and_the_commit_is_the_same() {
    let world = World::new();
    let before = world.commit("a.txt", "one\n", "One");
    world.ok(&["install"]);
    let output = world.git_command(&["commit", "-q", "--allow-empty", "-m", "Two"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(world.git(&["rev-parse", "HEAD~1"]), before);
}

/// Numbers by their value: `explain` prints them as they were made, `query` as every store knows them.
fn by_value(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(values) => values.iter().map(by_value).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), by_value(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn hook_backfill_and_explain_give_the_same_digest() {
    let world = World::new();
    world.ok(&["install"]);
    let id =
        world.commit("src/auth/session.py", "verify = False\nSESSION_TIMEOUT = 10\n", "Shorten the session");
    let hooked = world.delivered(&id);
    let explained = world.json(&["explain", "--json"]);
    let line = world.ok(&["backfill", "--dry-run", "--json"]);
    let walked: Value = serde_json::from_str(line.trim()).unwrap();
    for record in [&explained, &walked] {
        for field in ["digest", "riskScore", "findings", "compliance", "filesChanged", "repository"] {
            if field != "repository" {
                assert_eq!(by_value(&record[field]), by_value(&hooked[field]), "{field}");
            }
        }
        assert_eq!(record["repository"]["id"], hooked["repository"]["id"]);
    }
}

#[test]
fn backfill_is_complete_idempotent_and_verified_in_the_local_store() {
    let world = World::new();
    world.history(40);
    let count: usize = world.git(&["rev-list", "--count", "HEAD"]).parse().unwrap();
    let first = world.json(&["backfill", "--json"]);
    assert_eq!(first["added"], count);
    assert_eq!(ids(&world.records()).len(), count);
    let second = world.json(&["backfill", "--json"]);
    assert_eq!((&second["added"], &second["known"]), (&Value::from(0), &Value::from(count)));
    assert_eq!(world.records().len(), count);
    world.ok(&["verify"]);
}

#[test]
fn backfill_into_cosmos_is_read_back_by_pythons_client() {
    let emulator = Emulator::start(&[]);
    let world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.ok(&["store", "check"]);
    world.history(25);
    let count: usize = world.git(&["rev-list", "--count", "HEAD"]).parse().unwrap();
    world.ok(&["backfill"]);
    let records = world.records();
    assert_eq!(ids(&records).len(), count);
    world.ok(&["verify"]);
    let again = world.json(&["backfill", "--json"]);
    assert_eq!(again["added"], 0);
    assert_eq!(world.records().len(), count);

    let python = std::env::var("GITOPS_AGENT_TEST_PYTHON");
    let Ok(python) = python else {
        assert!(std::env::var_os("CI").is_none(), "CI must name a Python with azure-cosmos");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/read_back.py");
    let output = Command::new(python)
        .args([script, emulator.endpoint(), "gitops", "commits", "clinic-a"])
        .env("COSMOS_KEY", EMULATOR_KEY)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    for way in ["query", "prefix", "point"] {
        assert_eq!(read[way], count, "{way}: {read}");
    }
    // What `infra/` deploys is what another client sees.
    let shape: Value = serde_json::from_str(include_str!("../infra/container.json")).unwrap();
    assert_eq!(read["container"], shape);
}

#[test]
fn a_backfill_killed_half_way_and_repeated_gives_the_same() {
    let emulator = Emulator::start(&["--latency-ms", "5"]);
    let world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.history(60);
    let count: usize = world.git(&["rev-list", "--count", "HEAD"]).parse().unwrap();
    let mut child = world.agent(&["backfill"]).spawn().unwrap();
    wait_for(30, "a first record in the store", || (!world.records().is_empty()).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    world.ok(&["backfill"]);
    assert_eq!(ids(&world.records()).len(), count);
    assert_eq!(world.records().len(), count);
    world.ok(&["verify"]);
}

#[test]
fn verify_names_what_is_missing_altered_and_queued() {
    let world = World::new();
    world.history(6);
    world.ok(&["backfill", "--no-flush"]);
    assert_eq!(world.output(&["verify"]).status.code(), Some(3), "all are queued");
    world.ok(&["flush"]);
    world.ok(&["verify"]);
    let id = world.git(&["rev-parse", "HEAD~2"]);
    let other = world.git(&["rev-parse", "HEAD~3"]);
    let store = world.home().join("store.db");
    for sql in [
        format!("UPDATE documents SET body = json_set(body, '$.riskScore', 0.001) WHERE id = '{id}'"),
        format!("DELETE FROM documents WHERE id = '{other}'"),
    ] {
        let connection = rusqlite::Connection::open(&store).unwrap();
        assert_eq!(connection.execute(&sql, []).unwrap(), 1, "{sql}");
    }
    let output = world.output(&["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["altered"][&id], serde_json::json!(["riskScore", "digest", "query columns"]));
    assert_eq!(found["missing"], serde_json::json!([other]));
    // The other way round: the document stays and queries no longer find it.
    let hidden = world.git(&["rev-parse", "HEAD~1"]);
    let connection = rusqlite::Connection::open(&store).unwrap();
    let hide = "UPDATE documents SET risk = 0, compliance = '[]' WHERE id = ?1";
    assert_eq!(connection.execute(hide, [&hidden]).unwrap(), 1);
    drop(connection);
    let found: Value = serde_json::from_slice(&world.output(&["verify", "--json"]).stdout).unwrap();
    assert_eq!(found["altered"][&hidden], serde_json::json!(["query columns"]));
    // Pretending that somebody else judged it does not help; and what was deleted can be recorded again.
    let connection = rusqlite::Connection::open(&store).unwrap();
    let forged = "UPDATE documents SET body = json_set(body, '$.agentVersion', '0.0.9') WHERE id = ?1";
    assert_eq!(connection.execute(forged, [&id]).unwrap(), 1);
    drop(connection);
    world.ok(&["backfill", "--missing"]);
    let output = world.output(&["verify", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["altered"][&id], serde_json::json!(["digest", "query columns"]));
    assert_eq!(found["missing"], serde_json::json!([]));
}

#[test]
fn a_discarded_record_stays_discarded_and_is_named() {
    let world = World::new();
    world.history(3);
    world.ok(&["backfill", "--no-flush"]);
    let id = world.git(&["rev-parse", "HEAD"]);
    let (code, _) = world.fails(&["outbox", "discard", &id]);
    assert_eq!(code, 2, "without --yes nothing is discarded");
    world.ok(&["outbox", "discard", &id, "--why", "a test", "--yes"]);
    world.ok(&["backfill"]);
    assert!(!ids(&world.records()).contains(&id));
    let found = world.json(&["verify", "--json"]);
    assert_eq!(found["discarded"], serde_json::json!([id]));
}

#[test]
fn uninstalling_leaves_the_git_folder_as_it_was() {
    let world = World::new();
    world.commit("a.txt", "one\n", "One");
    let listing = || {
        let mut find = Command::new("find");
        find.arg(world.repo().join(".git")).args(["-path", "*/objects", "-prune", "-o", "-print"]);
        let found = String::from_utf8(find.output().unwrap().stdout).unwrap();
        found.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let before = listing();
    world.ok(&["install"]);
    let id = world.commit("a.txt", "two\n", "Two");
    world.delivered(&id);
    world.ok(&["uninstall"]);
    let left: Vec<String> = listing().difference(&before).cloned().collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_rewrite_links_the_new_record_to_the_old_one() {
    let world = World::new();
    world.ok(&["install"]);
    let old = world.commit("a.txt", "one\n", "One");
    world.delivered(&old);
    world.git(&["commit", "-q", "--amend", "-m", "One, better"]);
    let new = world.git(&["rev-parse", "HEAD"]);
    wait_for(30, "the link", || {
        let record = world.delivered(&new);
        (record["supersedes"] == serde_json::json!([old])).then_some(())
    });
}

#[test]
fn a_merge_is_recorded_by_post_merge_and_a_fast_forward_is_not() {
    let world = World::new();
    world.ok(&["install"]);
    world.commit("a.txt", "one\n", "One");
    world.git(&["checkout", "-q", "-b", "side"]);
    world.commit("b.txt", "two\n", "Two");
    world.git(&["checkout", "-q", "main"]);
    world.git(&["merge", "-q", "--no-ff", "-m", "Merge", "side"]);
    let merge = world.git(&["rev-parse", "HEAD"]);
    let record = world.delivered(&merge);
    assert_eq!(record["source"], "post-merge");
    assert_eq!(record["parents"].as_array().unwrap().len(), 2);
    assert_eq!(record["filesChanged"][0]["path"], "b.txt");
    assert_eq!(record["findings"], serde_json::json!([]));
}
