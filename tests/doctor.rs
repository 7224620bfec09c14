//! `doctor` against real repositories in each state that it must tell apart, and what it must leave alone.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use world::{EMULATOR_KEY, Emulator, World, agent};

/// An installed repository with a class and one commit.
fn installed() -> World {
    let world = World::new();
    world.git(&["config", "gitops-agent.class", "records"]);
    world.ok(&["install"]);
    let id = world.commit("src/app.py", "print(1)\n", "First");
    world.delivered(&id);
    world
}

/// Exit code and findings.
fn doctor(world: &World, words: &[&str]) -> (i32, Value) {
    let output = world.output(&[&["doctor", "--json"], words].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let json: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(json["schemaVersion"], 1);
    for check in json["checks"].as_array().unwrap() {
        assert_eq!(check["mend"].is_null(), check["status"] == "ok", "{check}");
    }
    (output.status.code().unwrap(), json)
}

/// The one finding of this name.
fn find(json: &Value, name: &str) -> (String, String, String) {
    let mut found = json["checks"].as_array().unwrap().iter().filter(|check| check["check"] == name);
    let check = found.next().unwrap_or_else(|| panic!("no {name} in {json}"));
    assert!(found.next().is_none(), "two {name} in {json}");
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("message"), text("mend"))
}

/// The files, but for SQLite's own and the worker's second lock, which come and go with the worker.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let of_worker = |name: &str| ["-wal", "-shm", "-waits.lock"].iter().any(|end| name.ends_with(end));
    names.retain(|name| !of_worker(name));
    names.sort();
    names
}

#[test]
fn a_sound_installation_is_healthy_and_nothing_of_the_proof_is_left() {
    let mut world = installed();
    let temporary = world.root().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    world.set("TMPDIR", temporary.to_str().unwrap());
    let (before, listed) = (files(&world.home()), world.ok(&["outbox", "list", "--json"]));
    let (code, json) = doctor(&world, &[]);
    assert_eq!((code, &json["health"]), (0, &"ok".into()), "{json}");
    for name in [
        "repository",
        "git",
        "hooks",
        "program",
        "settings",
        "rules",
        "class",
        "tenant",
        "store",
        "carried",
        "outbox-folder",
        "outbox-disk",
        "outbox",
        "store-database",
        "clock",
        "capture",
    ] {
        assert_eq!(find(&json, name).0, "ok", "{name}");
    }
    assert_eq!(files(&world.home()), before);
    assert_eq!(world.ok(&["outbox", "list", "--json"]), listed);
    assert_eq!(world.records().len(), 1);
    assert_eq!(files(&temporary), [""; 0], "the scratch repository is gone");
    let text = world.ok(&["doctor"]);
    assert!(text.ends_with("ok: 0 failed, 0 to look at\n"), "{text}");
}

#[test]
fn the_proof_runs_apart_from_the_users_settings_and_repository() {
    let mut world = installed();
    // Nobody listens there; a record of the scratch commit must not be on its way to it.
    world.set("COSMOS_ENDPOINT", "http://127.0.0.1:9");
    world.set("COSMOS_KEY", EMULATOR_KEY);
    world.set("GITOPS_AGENT_TENANT", "clinic-a");
    world.set("GITOPS_AGENT", "0");
    world.set("GIT_DIR", world.repo().join(".git").to_str().unwrap());
    world.set("GIT_INDEX_FILE", world.repo().join(".git/index").to_str().unwrap());
    let head = world.git(&["rev-parse", "HEAD"]);
    let (code, json) = doctor(&world, &[]);
    assert_eq!((code, &json["health"]), (1, &"failing".into()), "{json}");
    assert_eq!(find(&json, "capture").0, "ok", "{json}");
    assert_eq!(find(&json, "switch").0, "warning");
    let (status, message, mend) = find(&json, "store-visibility");
    assert_eq!(status, "warning");
    for name in ["COSMOS_ENDPOINT", "GITOPS_AGENT_TENANT", "COSMOS_KEY"] {
        assert!(message.contains(name), "{message}");
    }
    assert!(mend.contains("config.toml"), "{mend}");
    assert_eq!(world.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(world.json(&["status", "--json"])["outbox"]["pending"], 0);
}

#[test]
fn hooks_that_are_there_but_not_in_force_are_told_apart() {
    let world = installed();
    let hooks = |json: &Value| find(json, "hooks");

    world.git(&["config", "core.hooksPath", ".husky/_"]);
    let (code, json) = doctor(&world, &[]);
    let (status, message, mend) = hooks(&json);
    assert_eq!((code, status.as_str(), mend.as_str()), (1, "failed", "gitops-agent install"));
    assert!(message.contains("core.hooksPath makes Git look into"), "{message}");
    assert_eq!(find(&json, "hooks-path").0, "warning");
    world.git(&["config", "--unset", "core.hooksPath"]);

    let push = world.repo().join(".git/hooks/pre-push");
    std::fs::set_permissions(&push, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, json) = doctor(&world, &[]);
    assert_eq!(code, 1);
    assert!(hooks(&json).1.contains("pre-push is not executable"), "{json}");
    world.ok(&["install"]);
    assert_eq!(doctor(&world, &[]).0, 0, "the command that was named mends it");

    std::fs::remove_file(world.repo().join(".git/hooks/post-merge")).unwrap();
    assert!(hooks(&doctor(&world, &[]).1).1.contains("not installed here: post-merge"));
    world.git(&["config", "gitops-agent.enabled", "false"]);
    assert_eq!(find(&doctor(&world, &[]).1, "switch").0, "failed");
}

#[test]
fn a_program_that_is_gone_or_another_is_named() {
    let world = World::new();
    let other = world.root().join("bin/gitops-agent");
    std::fs::create_dir(other.parent().unwrap()).unwrap();
    std::fs::copy(agent(), &other).unwrap();
    let installed = std::process::Command::new(&other)
        .args(["install", "--repo", world.repo().to_str().unwrap()])
        .env("GITOPS_AGENT_HOME", world.home())
        .output()
        .unwrap();
    assert!(installed.status.success());
    assert_eq!(find(&doctor(&world, &[]).1, "program").0, "ok", "the same version");

    std::fs::write(&other, "#!/bin/sh\necho gitops-agent 0.0.1\n").unwrap();
    let (status, message, _) = find(&doctor(&world, &[]).1, "program");
    assert_eq!(status, "warning");
    assert!(message.contains("0.0.1"), "{message}");

    std::fs::remove_file(&other).unwrap();
    let (code, json) = doctor(&world, &[]);
    assert_eq!((code, find(&json, "program").0.as_str()), (1, "failed"));
    assert!(find(&json, "program").1.contains("which is gone"));
    world.ok(&["install"]);
    assert_eq!(find(&doctor(&world, &[]).1, "program").0, "ok");
}

#[test]
fn what_the_repository_itself_tries_is_ignored_and_reported() {
    let world = installed();
    let text = "class = 'device'\ntenant = 'mine'\n[store]\nendpoint = 'https://evil.example/'\n[rules]\ndisable = ['x']\n";
    let id = world.commit(".gitops-agent.toml", text, "Try");
    assert_eq!(world.delivered(&id)["tenantId"], "local");
    let (code, json) = doctor(&world, &[]);
    assert_eq!((code, &json["health"]), (0, &"degraded".into()));
    let carried: Vec<&str> = json["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["check"] == "carried")
        .map(|check| check["message"].as_str().unwrap())
        .collect();
    assert_eq!(carried.len(), 4, "{carried:?}");
    for tried in ["choose the tenant", "choose the store", "switch rules off", "the class device"] {
        assert!(carried.iter().any(|message| message.contains(tried)), "{tried}: {carried:?}");
    }
    world.commit(".gitops-agent.toml", "class = [", "Break");
    assert!(find(&doctor(&world, &[]).1, "carried").1.contains("no TOML"));
}

#[test]
fn wrong_settings_and_a_damaged_outbox_are_findings_and_no_end() {
    let world = installed();
    std::fs::write(world.home().join("config.toml"), "tenant = 'a/b'\nretention_days = 0\n").unwrap();
    let (code, json) = doctor(&world, &[]);
    assert_eq!(code, 1);
    let wrong =
        json["checks"].as_array().unwrap().iter().filter(|check| check["check"] == "settings").count();
    assert_eq!(wrong, 2, "{json}");
    assert_eq!(find(&json, "capture").0, "ok");
    std::fs::remove_file(world.home().join("config.toml")).unwrap();

    let outbox = world.home().join("outbox.db");
    for log in ["outbox.db-wal", "outbox.db-shm"] {
        let _ = std::fs::remove_file(world.home().join(log));
    }
    let mut bytes = std::fs::read(&outbox).unwrap();
    let end = bytes.len();
    bytes[4096..end].fill(0xa5);
    std::fs::write(&outbox, bytes).unwrap();
    let (code, json) = doctor(&world, &[]);
    assert_eq!((code, find(&json, "outbox").0.as_str()), (1, "failed"), "{json}");
    world.output(&["flush"]);
    assert_eq!(find(&doctor(&world, &[]).1, "outbox").0, "ok", "the command that was named mends it");
}

#[test]
fn a_store_is_probed_in_a_tenant_of_its_own() {
    let emulator = Emulator::start(&[]);
    let world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.git(&["config", "gitops-agent.class", "records"]);
    let (code, json) = doctor(&world, &["--write"]);
    assert_eq!(code, 1, "no database yet: {json}");
    world.ok(&["store", "init"]);
    world.ok(&["install"]);
    for _ in 0..2 {
        let (code, json) = doctor(&world, &["--write"]);
        assert_eq!(code, 0, "{json}");
        assert_eq!(find(&json, "store-probe").0, "ok");
    }
    let probe = world.json(&["query", "--tenant", "_doctor", "--format", "json"]);
    assert_eq!((probe.as_array().unwrap().len(), &probe[0]["ttl"]), (1, &60.into()), "{probe}");
    assert_eq!(world.records().len(), 0, "nothing among the user's");
}

#[test]
fn outside_of_a_repository_the_rest_is_looked_at() {
    let world = World::bare();
    let (code, json) = doctor(&world, &[]);
    assert_eq!((code, find(&json, "repository").0.as_str()), (0, "warning"), "{json}");
    assert_eq!(find(&json, "capture").0, "ok");
    // One that was named must be there.
    let (code, said) = world.fails(&["doctor", "--repo", world.root().to_str().unwrap()]);
    assert!(code == 2 && said.contains("repository"), "{said}");
}
