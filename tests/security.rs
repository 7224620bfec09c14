//! Threats that `SECURITY.md` names and that need the whole agent to be tried.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use world::{EMULATOR_KEY, Emulator, World, wait_for};

/// A control sequence introducer of one character, and a right-to-left override.
const HIDDEN: [char; 4] = ['\u{9b}', '\u{202e}', '\u{7f}', '\u{1b}'];

fn assert_harmless(what: &str, bytes: &[u8]) {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(!text.is_empty(), "{what} said nothing");
    assert!(!text.contains(HIDDEN), "{what}: {text:?}");
}

#[test]
fn no_output_steers_a_terminal() {
    let world = World::new();
    let name = "a\u{9b}31m\u{202e}b\u{1b}[2J.py";
    let id = world.commit(name, "x = 1\n", "Subject \u{9b}2J \u{202e}desrever \u{7f}");
    world.git(&["checkout", "-q", "-b", "br\u{9b}31m\u{202e}anch"]);
    world.ok(&["install"]);
    let second = world.commit("b.txt", "b\n", "Second \u{9b}0m");
    world.ok(&["backfill", "--no-flush"]);
    for words in [
        &["outbox", "list"][..],
        &["outbox", "list", "--json"],
        &["outbox", "show", &id],
        &["outbox", "export"],
        &["explain", &id],
        &["explain", &id, "--json"],
        &["status"],
        &["status", "--json"],
        &["flush"],
        &["query"],
        &["query", "--format", "json"],
        &["query", "--format", "ndjson"],
        &["query", "--format", "csv"],
        &["verify"],
    ] {
        let output = world.output(words);
        assert_harmless(&words.join(" "), &[output.stdout, output.stderr].concat());
    }
    // Escaped, not changed: a program reads what was there.
    let record = world.records().into_iter().find(|record| record["id"] == second.as_str()).unwrap();
    assert_eq!(record["message"], "Second \u{9b}0m\n");
}

#[test]
fn an_endpoints_password_is_never_repeated() {
    let mut world = World::new();
    world.ok(&["install"]);
    world.set("COSMOS_ENDPOINT", "https://user:hunter2secret@a.documents.azure.com/?sig=hunter2secret");
    let output = world.git_command(&["commit", "-q", "--allow-empty", "-m", "One"]).output().unwrap();
    let mut said = vec![output];
    for words in [&["config", "show", "--origin"][..], &["status"], &["flush"], &["store", "check"]] {
        said.push(world.output(words));
    }
    for output in said {
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.is_empty() && !text.contains("hunter2"), "{text}");
    }
    for file in walk(&world.home()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"), "{}", file.display());
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn nothing_reaches_the_disk_before_it_is_redacted() {
    let ssn = ["219", "09", "9998"].join("-");
    // A spool file is what a hook writes when it can judge, a note when it cannot; both where it judges by the last
    // good rules.
    for (broken, files) in [("", 1), ("GITOPS_AGENT_CLASS", 1), ("GITOPS_AGENT_RULES", 2)] {
        let mut world = World::new();
        world.commit("a.txt", "a\n", "First");
        world.git(&[
            "remote",
            "add",
            "origin",
            &format!("https://bot:hunter2secret@host.example/{ssn}/r.git"),
        ]);
        world.git(&["checkout", "-q", "-b", &format!("fix/ssn-{ssn}")]);
        world.ok(&["install"]);
        // No worker, so that the first write stays to be seen.
        let lock = std::fs::OpenOptions::new();
        let held = hold_the_lock(&world, lock);
        if !broken.is_empty() {
            world.set(broken, "/nowhere/at/all");
        }
        world.commit(&format!("export/{ssn}.csv"), "x\n", &format!("Import of SSN: {ssn}"));
        let spooled: Vec<_> = walk(&world.home().join("spool"));
        assert_eq!(spooled.len(), files, "{spooled:?}");
        for file in walk(&world.home()) {
            let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            assert!(!text.contains(&ssn) && !text.contains("hunter2"), "{}: {text}", file.display());
            assert_eq!(
                std::fs::metadata(&file).unwrap().permissions().mode() & 0o077,
                0,
                "{}",
                file.display()
            );
        }
        drop(held);
        world.unset(broken);
        world.ok(&["flush"]);
        let record = &world.records()[0];
        assert_eq!(record["repository"]["branch"], "fix/ssn-[redacted:ssn]");
        assert!(!record.to_string().contains(&ssn), "{record}");
    }
}

fn hold_the_lock(world: &World, mut options: std::fs::OpenOptions) -> std::fs::File {
    let path = world.home().join("worker.lock");
    let file = options.create(true).truncate(false).write(true).open(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    file.lock().unwrap();
    file
}

#[test]
fn a_link_in_the_agents_folder_is_not_followed() {
    let world = World::new();
    world.ok(&["install"]);
    let elsewhere = world.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let _ = std::fs::remove_dir_all(world.home().join("spool"));
    symlink(&elsewhere, world.home().join("spool")).unwrap();
    world.commit("a.txt", "a\n", "One");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 1, "it went into the repository's own Git folder");
    // The same for the database.
    let other = World::new();
    other.ok(&["install"]);
    let _ = std::fs::remove_file(other.home().join("outbox.db"));
    symlink(other.root().join("elsewhere.db"), other.home().join("outbox.db")).unwrap();
    assert_eq!(other.fails(&["flush"]).0, 5);
    assert!(!other.root().join("elsewhere.db").exists());
}

#[test]
fn what_a_repository_carries_chooses_nothing() {
    let world = World::new();
    world.ok(&["install"]);
    let evil = "tenant = \"evil\"\nenabled = false\nretention_days = 1\nrules = \"/etc\"\nclass = \"other\"\n\
        [store]\nkind = \"cosmos\"\nendpoint = \"https://evil.example/\"\ncredential = \"cli\"\n[privacy]\nauthor = \"plain\"\n";
    let id = world.commit(".gitops-agent.toml", evil, "Take over");
    let record = world.delivered(&id);
    assert_eq!(record["tenantId"], "local");
    assert_eq!(record["ttl"], 220_924_800);
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["store"]["kind"], "local", "{status}");
}

#[test]
fn a_carried_file_of_any_size_and_content_does_not_hold_the_commit() {
    let world = World::new();
    world.ok(&["install"]);
    for (number, text) in [
        "[".repeat(4 << 20),
        "a = ".repeat(1 << 20),
        format!("class = \"{}\"", "x".repeat(8 << 20)),
        "\0".repeat(1 << 20),
    ]
    .into_iter()
    .enumerate()
    {
        let start = Instant::now();
        let id = world.commit(".gitops-agent.toml", &text, &format!("Number {number}"));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!(world.delivered(&id)["class"]["origin"], "unknown");
    }
}

#[test]
fn a_rules_folder_or_settings_file_that_never_ends_is_refused() {
    let mut world = World::new();
    world.ok(&["install"]);
    let pack = world.root().join("rules/pack");
    std::fs::create_dir_all(&pack).unwrap();
    world.set("GITOPS_AGENT_RULES", world.root().join("rules").to_str().unwrap());
    symlink("/dev/zero", pack.join("pack.toml")).unwrap();
    let commit = |world: &World| {
        let start = Instant::now();
        world.commit("a.txt", &format!("{:?}\n", Instant::now()), "One");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    };
    commit(&world);
    assert_eq!(world.fails(&["rules", "list"]).0, 2);
    std::fs::remove_file(pack.join("pack.toml")).unwrap();
    std::fs::write(pack.join("pack.toml"), "[".repeat(100_000_000)).unwrap();
    commit(&world);
    assert_eq!(world.fails(&["rules", "list"]).0, 2);
    world.unset("GITOPS_AGENT_RULES");
    symlink("/dev/zero", world.home().join("config.toml")).unwrap();
    commit(&world);
    std::fs::remove_file(world.home().join("config.toml")).unwrap();
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 3);
}

#[test]
fn a_key_in_the_settings_file_is_not_repeated() {
    let world = World::new();
    world.ok(&["install"]);
    let settings = format!("tenant = \"clinic-a\"\n[store]\nkey = \"{EMULATOR_KEY}\"\n");
    std::fs::write(world.home().join("config.toml"), settings).unwrap();
    // What is wrong stands in the table, what to do about it on standard error.
    let output = world.output(&["config", "show"]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("line 3") && said.contains("key") && !said.contains(EMULATOR_KEY), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_list_shows_no_secret() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hanging.local_addr().unwrap());
    let world = World::with_cosmos(&endpoint, "clinic-a");
    world.ok(&["install"]);
    world.commit("a.txt", "a\n", "One");
    let wanted = format!("GITOPS_AGENT_HOME={}", world.home().display());
    let line = wait_for(10, "a worker", || {
        std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let ours = environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (ours && line.contains("worker")).then_some(line)
        })
    });
    assert!(line.ends_with("gitops-agent\0worker\0"), "{line:?}");
    assert!(!line.contains(EMULATOR_KEY));
}

#[test]
fn a_note_keeps_the_destination_that_was_set() {
    let emulator = Emulator::start(&[]);
    let mut world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.ok(&["install"]);
    world.set("GITOPS_AGENT_RULES", "/nowhere/at/all");
    let id = world.commit("a.txt", "a\n", "One");
    // Later the endpoint is set no more; the commit was made for it all the same.
    let endpoint = emulator.endpoint().to_owned();
    world.unset("COSMOS_ENDPOINT");
    world.unset("GITOPS_AGENT_RULES");
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 0, "not in the local store");
    world.set("COSMOS_ENDPOINT", &endpoint);
    assert_eq!(world.records()[0]["id"], id.as_str());
}

#[test]
fn a_hook_with_a_key_wakes_what_one_without_had_to_leave() {
    let emulator = Emulator::start(&[]);
    let mut world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.ok(&["install"]);
    world.unset("COSMOS_KEY");
    world.set("GITOPS_AGENT_CREDENTIAL", "key");
    let held = |world: &World| world.json(&["status", "--json"])["outbox"]["held"].clone();
    let first = world.commit("a.txt", "a\n", "One");
    wait_for(30, "a held record", || (held(&world) == 1).then_some(()));
    world.set("COSMOS_KEY", EMULATOR_KEY);
    let second = world.commit("b.txt", "b\n", "Two");
    let start = Instant::now();
    world.delivered(&second);
    world.delivered(&first);
    assert!(start.elapsed() < Duration::from_secs(25), "a held gate is probed after half a minute anyway");
}

#[test]
fn a_store_that_is_mended_gets_everything_without_another_commit_or_command() {
    let emulator = Emulator::start(&[]);
    let world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["install"]);
    let id = world.commit("a.txt", "a\n", "One");
    wait_for(30, "a held record", || {
        (world.json(&["status", "--json"])["outbox"]["held"] == 1).then_some(())
    });
    world.ok(&["store", "init"]);
    // The worker has long left its delivery: it looks again after 30 to 60 s.
    let record: Value =
        wait_for(90, "delivery", || world.records().into_iter().find(|record| record["id"] == id.as_str()));
    assert_eq!(record["tenantId"], "clinic-a");
}
