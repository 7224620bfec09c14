//! The life of the data: `export`, `import` and `query --follow`, as programs, from one store to the other and back.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use world::{Emulator, World};

/// Records in the local store of a world that also has an emulator; the tenant is `clinic-a`.
fn populated(emulator: &Emulator, commits: usize) -> World {
    let mut world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.set("GITOPS_AGENT_STORE", "local");
    world.history(commits);
    world.commit("src/auth/session.py", "verify = False\nSESSION_TIMEOUT = 10\n", "Shorten the session");
    world.commit(
        "src/audit/log.py",
        "import logging\naudit_log.disable()\n",
        "Quiet \u{1b}[2J \u{202e}the log",
    );
    world.ok(&["backfill", "--all"]);
    world
}

fn export(world: &mut World, store: &str, name: &str) -> Vec<u8> {
    world.set("GITOPS_AGENT_STORE", store);
    let path = world.root().join(name);
    world.ok(&["-q", "export", "--output", path.to_str().unwrap()]);
    std::fs::read(path).unwrap()
}

fn kill(process: &mut Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits for the end, at most ten seconds; the exit code.
fn ended(process: &mut Child) -> Option<i32> {
    let status = world::wait_for(10, "the end", || process.try_wait().unwrap());
    status.code()
}

#[test]
fn there_and_back_again_every_byte_and_every_answer_is_the_same() {
    let emulator = Emulator::start(&[]);
    let mut world = populated(&emulator, 20);
    let local = export(&mut world, "local", "local.ndjson");
    let lines: Vec<Value> = std::str::from_utf8(&local)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let all = world.records();
    let names = |records: &[Value]| {
        records.iter().map(|r| (r["id"].clone(), r["digest"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&lines), names(&all), "what query prints, in its order");
    assert!(!local.iter().any(|byte| *byte < b'\n') && !local.windows(3).any(|w| w == "\u{202e}".as_bytes()));
    // To standard output the same, and said what it was.
    let piped = world.output(&["export"]);
    assert!(piped.status.success() && piped.stdout == local);
    let said = String::from_utf8(piped.stderr).unwrap();
    assert!(said.contains(&format!("{} records of tenant \"clinic-a\"", all.len())), "{said}");

    world.set("GITOPS_AGENT_STORE", "cosmos");
    let file = world.root().join("local.ndjson");
    let file = file.to_str().unwrap();
    let report = world.json(&["import", "--dry-run", "--json", file]);
    assert_eq!((&report["lines"], &report["unfit"]), (&all.len().into(), &0.into()));
    assert!(world.records().is_empty());
    let report = world.json(&["import", "--json", file]);
    assert_eq!(report["created"], all.len());
    assert_eq!(world.json(&["import", "--json", file])["already"], all.len(), "a repeat changes nothing");
    assert_eq!(export(&mut world, "cosmos", "cosmos.ndjson"), local);
    // What it cost is among the day's charges.
    let measured = world.json(&["cost", "--json"])["measured"].clone();
    assert!(measured["days"][0]["requestUnits"].as_f64().unwrap() > all.len() as f64, "{measured}");

    // Every filter, and pairs of them, asked of both; and an export of the same.
    let with = all.iter().find(|record| record["findings"].as_array().is_some_and(|all| !all.is_empty()));
    let with = with.expect("the history has a finding");
    let text = |pointer: &str| with.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let (day, id, repository) = (text("/commitDate"), text("/id"), text("/repository/name"));
    let filters: Vec<Vec<String>> = [
        vec!["--since", &day],
        vec!["--until", &day],
        vec!["--since", &day, "--until", &day],
        vec!["--min-risk", &with["riskScore"].to_string()],
        vec!["--tag", &text("/compliance/0")],
        vec!["--level", &text("/riskLevel")],
        vec!["--rule", &text("/findings/0/rule")],
        vec!["--citation", &text("/findings/0/citations/0")],
        vec!["--path", "src/auth/"],
        vec!["--author", "ada@example.com"],
        vec!["--repository", &repository],
        vec!["--repository", &text("/repository/id"), "--level", "low"],
        vec!["--repository", "no-such"],
        vec!["--commit", &id],
        vec!["--commit", &id[..7]],
    ]
    .into_iter()
    .map(|words| words.into_iter().map(str::to_owned).collect())
    .collect();
    for filter in filters {
        let words = |command: &[&str]| {
            command.iter().copied().map(str::to_owned).chain(filter.iter().cloned()).collect::<Vec<_>>()
        };
        let ask = |world: &World, command: &[&str]| {
            let words = words(command);
            world.ok(&words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let mut answers = |store| {
            world.set("GITOPS_AGENT_STORE", store);
            [
                &["query", "--format", "ndjson"][..],
                &["query", "--format", "csv"],
                &["query"],
                &["-q", "export"],
            ]
            .map(|command| ask(&world, command))
        };
        let (cosmos, local) = (answers("cosmos"), answers("local"));
        assert_eq!(cosmos, local, "{filter:?}");
        let found = local[3].lines().count();
        assert_eq!((local[0].lines().count(), local[1].lines().count()), (found, found + 1), "{filter:?}");
        assert_eq!(found == 0, filter.contains(&"no-such".to_owned()), "{filter:?}");
    }

    // Back into an empty local store: an audit's copy.
    let home = world.root().join("audit");
    std::fs::create_dir(&home).unwrap();
    world.set("GITOPS_AGENT_HOME", home.to_str().unwrap());
    world.ok(&["import", world.root().join("cosmos.ndjson").to_str().unwrap()]);
    assert_eq!(export(&mut world, "local", "audit.ndjson"), local);
}

#[test]
fn a_hostile_file_is_taken_apart_line_by_line() {
    let emulator = Emulator::start(&[]);
    let mut world = populated(&emulator, 2);
    let sound = String::from_utf8(export(&mut world, "local", "sound.ndjson")).unwrap();
    world.set("GITOPS_AGENT_STORE", "cosmos");
    let lines: Vec<&str> = sound.lines().collect();
    let other = lines[1].replace("\"tenantId\":\"clinic-a\"", "\"tenantId\":\"clinic-b\"");
    let altered = lines[1].replace("\"insertions\":2", "\"insertions\":7");
    let unredacted = lines[2].replacen("\"message\":\"", "\"message\":\"MRN: 12345678 \\u001b[2J", 1);
    let mut file = format!("{}\n\n{other}\n{altered}\n", lines[0]).into_bytes();
    file.extend_from_slice(unredacted.as_bytes());
    file.extend_from_slice(b"\nnot json \x1b[31m\n{\"tenantId\":\"\\u001b[2J\",\"schemaVersion\":1}\n");
    file.extend(std::iter::repeat_n(b'[', 3 * 1024 * 1024));
    file.extend_from_slice(b"\n\xff\xfe\n");
    file.extend_from_slice(format!("{other}\n{other}\n{}\n", lines[3]).as_bytes());
    // Cut off in the middle, as by a disk that was full.
    file.extend_from_slice(&lines[2].as_bytes()[..200]);
    let path = world.root().join("hostile.ndjson");
    std::fs::write(&path, &file).unwrap();

    let output = world.output(&["import", path.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    for wanted in [
        "line 3: the record is of tenant \"clinic-b\"",
        "line 4: the digest does not fit",
        "line 5: the message holds an identifier",
        "line 6: this is no whole JSON object",
        "line 7: this is no record",
        "line 8: the line is longer than",
        "line 9: ",
        "lines 10 to 11: the record is of tenant \"clinic-b\"",
        "line 13: this is no whole JSON object",
    ] {
        assert!(said.lines().any(|line| line.starts_with(wanted)), "{wanted}: {said}");
    }
    assert_eq!(said.lines().count(), 9, "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains("12345678"), "{said}");
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("2 are in the store (2 new"));
    // What was sound is there, and nothing else, under no name.
    let stored: Vec<String> = world.ok(&["-q", "export"]).lines().map(str::to_owned).collect();
    assert_eq!(stored, [lines[0], lines[3]]);
    assert_eq!(world.ok(&["-q", "export", "--tenant", "clinic-b"]), "");
    // From a pipe the same.
    let mut process = world
        .agent(&["import", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(&file).unwrap();
    let output = process.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &report["already"], &report["unfit"]),
        (Some(3), &2.into(), &10.into())
    );
}

#[test]
fn wrong_files_settings_and_stores_are_told_apart() {
    let emulator = Emulator::start(&[]);
    let mut world = populated(&emulator, 2);
    let file = world.root().join("a.ndjson");
    export(&mut world, "local", "a.ndjson");
    let file = file.to_str().unwrap();
    let code = |world: &World, words: &[&str]| world.fails(words).0;
    assert_eq!(code(&world, &["import", "no-such-file"]), 2);
    assert_eq!(code(&world, &["import", world.root().to_str().unwrap()]), 2);
    assert_eq!(code(&world, &["import"]), 2);
    assert_eq!(code(&world, &["export", "--output", world.root().to_str().unwrap()]), 2);
    assert_eq!(code(&world, &["export", "--output", "no/such/folder/a"]), 2);
    assert_eq!(code(&world, &["export", "--since", "2026-02-30"]), 2);

    // Cosmos DB takes records of a tenant that somebody named.
    world.set("GITOPS_AGENT_STORE", "cosmos");
    world.unset("GITOPS_AGENT_TENANT");
    let (code, said) = world.fails(&["import", file]);
    assert!(code == 2 && said.contains("no tenant is set"), "{said}");
    let report = world.json(&["import", "--tenant", "clinic-a", "--json", file]);
    assert_eq!(report["created"], 4);
    // What was recorded before there was an account.
    let taken = world.json(&["import", "--tenant", "clinic-n", "--from-tenant", "clinic-a", "--json", file]);
    assert_eq!(taken["created"], 4);
    let digests = |world: &World, tenant: &str| {
        let text = world.ok(&["-q", "export", "--tenant", tenant]);
        let of = |line: &str| serde_json::from_str::<Value>(line).unwrap()["digest"].clone();
        text.lines().map(of).collect::<Vec<_>>()
    };
    assert_eq!(digests(&world, "clinic-n"), digests(&world, "clinic-a"));
    assert_eq!(world.fails(&["import", "--tenant", "a/b", file]).0, 2);

    // Access denied, and a budget.
    world.set("GITOPS_AGENT_TENANT", "clinic-c");
    std::fs::write(world.home().join("config.toml"), "[store]\nbudget_ru = 1\n").unwrap();
    let words = ["import", "--from-tenant", "clinic-a", file];
    let (code, said) = world.fails(&words);
    assert!(
        code == 3 && said.contains("store.budget_ru is spent") && said.contains("--from-line 1"),
        "{said}"
    );
    std::fs::remove_file(world.home().join("config.toml")).unwrap();
    let denying = Emulator::start(&["--deny", "create"]);
    world.set("COSMOS_ENDPOINT", denying.endpoint());
    world.ok(&["store", "init"]);
    let (code, said) = world.fails(&words);
    assert!(code == 4 && said.contains("--from-line 1"), "{said}");
}

#[test]
fn an_export_is_whole_or_not_there_and_one_that_was_killed_is_repeated() {
    let slow = Emulator::start(&["--latency-ms", "400"]);
    let mut world = World::with_cosmos(slow.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.commit("a.txt", "one\n", "One");
    world.ok(&["backfill"]);
    let (path, partial) = (world.root().join("x.ndjson"), world.root().join("x.ndjson.partial"));
    let words = ["export", "--output", path.to_str().unwrap()];
    let mut process = world.agent(&words).stderr(Stdio::null()).spawn().unwrap();
    world::wait_for(10, "the beginning", || partial.exists().then_some(()));
    // Two do not write into one file.
    let (code, said) = world.fails(&words);
    assert!(code == 2 && said.contains("another export"), "{said}");
    kill(&mut process, "-9");
    process.wait().unwrap();
    assert!(!path.exists());
    // Whatever the killed one left.
    std::fs::write(&partial, "x".repeat(100_000)).unwrap();
    world.ok(&words);
    assert!(!partial.exists());
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, world.ok(&["-q", "export"]));
    assert_eq!(text.lines().count(), 1);
    world.set("GITOPS_AGENT_STORE", "local");
    world.ok(&words);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "another store's, and whole");
}

#[test]
fn an_import_that_is_killed_again_and_again_ends_with_the_same() {
    let emulator = Emulator::start(&["--latency-ms", "5"]);
    let mut world = populated(&emulator, 60);
    let local = export(&mut world, "local", "a.ndjson");
    world.set("GITOPS_AGENT_STORE", "cosmos");
    let file = world.root().join("a.ndjson");
    let file = file.to_str().unwrap();
    let lines: Vec<&str> = std::str::from_utf8(&local).unwrap().lines().collect();
    let stored = |world: &World| world.ok(&["-q", "export"]).lines().count();
    for fed in [10, 25, 50] {
        let mut process =
            world.agent(&["import", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = process.stdin.take().unwrap();
        input.write_all((lines[..fed].join("\n") + "\n").as_bytes()).unwrap();
        let before = fed - 10;
        world::wait_for(20, "the first of them", || (stored(&world) > before).then_some(()));
        process.kill().unwrap();
        process.wait().unwrap();
        let there = stored(&world);
        assert!(before < there && there < lines.len(), "{there}");
    }
    world.ok(&["import", file]);
    assert_eq!(export(&mut world, "cosmos", "b.ndjson"), local);
}

/// A follower as a process, and its lines.
struct Follower {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Follower {
    fn start(world: &World, words: &[&str]) -> Self {
        let words = [&["query", "--follow", "--every", "1"], words].concat();
        let mut process = world.agent(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn ids(&mut self, count: usize) -> Vec<String> {
        let mut ids: Vec<String> =
            (0..count).map(|_| self.next()["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Until the follower has written down that it has nothing left.
fn settled(cursor: &Path) -> String {
    let read = || std::fs::read_to_string(cursor).unwrap_or_default();
    let mut last = read();
    world::wait_for(20, "the cursor", || {
        std::thread::sleep(Duration::from_millis(1500));
        let now = read();
        let same = !now.is_empty() && now == last;
        last = now;
        same.then(|| last.clone())
    })
}

fn follows(world: &mut World) {
    let cursor = world.root().join("cursor");
    let words = ["--cursor", cursor.to_str().unwrap()];
    let mut all: Vec<String> =
        world.records().iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect();
    all.sort();
    let mut follower = Follower::start(world, &words);
    assert_eq!(follower.ids(all.len()), all, "what is there, first");
    // A new one while it waits.
    let new = world.commit("new.txt", "new\n", "New");
    world.ok(&["backfill"]);
    assert_eq!(follower.next()["id"], new);
    settled(&cursor);
    kill(&mut follower.process, "-TERM");
    assert_eq!(ended(&mut follower.process), Some(0));

    // One is replaced and one is new while nobody follows; then it goes on where it was.
    let file = world.root().join("links.ndjson");
    let text = world.ok(&["-q", "export", "--commit", &new]);
    let mut record: Value = serde_json::from_str(&text).unwrap();
    record["supersedes"] = serde_json::json!(["f".repeat(40)]);
    std::fs::write(&file, record.to_string()).unwrap();
    let report = world.json(&["import", "--json", file.to_str().unwrap()]);
    assert_eq!(report["merged"], 1);
    let later = world.commit("later.txt", "later\n", "Later");
    world.ok(&["backfill"]);
    let mut follower = Follower::start(world, &words);
    let two = [follower.next(), follower.next()];
    assert_eq!(two.iter().find(|one| one["id"] == new).unwrap()["supersedes"], record["supersedes"]);
    assert!(two.iter().any(|one| one["id"] == later));
    settled(&cursor);
    kill(&mut follower.process, "-INT");
    assert_eq!(ended(&mut follower.process), Some(0));

    // Killed before it could write its cursor down, it tells again.
    std::fs::remove_file(&cursor).unwrap();
    let mut follower = Follower::start(world, &words);
    follower.next();
    kill(&mut follower.process, "-9");
    follower.process.wait().unwrap();
    let all = world.records();
    let mut follower = Follower::start(world, &words);
    let mut seen = std::collections::BTreeSet::new();
    // What the killed one had printed and written down does not come again; what it had not, does.
    let kept = cursor.exists();
    while !kept && seen.len() < all.len() {
        seen.extend(follower.ids(1));
    }
    // The reader goes: a clean end, though nothing is printed any more.
    settled(&cursor);
    let Follower { process, lines } = &mut follower;
    let (reader, _writer) = std::io::pipe().unwrap();
    let stdout =
        std::mem::replace(lines, BufReader::new(ChildStdout::from(std::os::fd::OwnedFd::from(reader))));
    drop(stdout);
    assert_eq!(ended(process), Some(0));

    // A cursor of another store, of another tenant, or none at all.
    let other = if world.ok(&["config", "show"]).contains("cosmos") { "local" } else { "cosmos" };
    for (setting, value) in [("GITOPS_AGENT_STORE", other), ("GITOPS_AGENT_TENANT", "clinic-b")] {
        let words = ["query", "--follow", "--cursor", cursor.to_str().unwrap()];
        let output = world.agent(&words).env(setting, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{setting}");
    }
    std::fs::write(&cursor, "{").unwrap();
    assert_eq!(world.fails(&["query", "--follow", "--cursor", cursor.to_str().unwrap()]).0, 2);
}

#[test]
fn a_follower_of_cosmos_goes_on_where_it_was() {
    let emulator = Emulator::start(&[]);
    let mut world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.history(12);
    world.ok(&["backfill"]);
    follows(&mut world);
}

#[test]
fn a_follower_of_the_local_store_goes_on_where_it_was() {
    let emulator = Emulator::start(&[]);
    let mut world = populated(&emulator, 12);
    follows(&mut world);
}

#[test]
fn a_follower_filters_and_keeps_to_lines() {
    let emulator = Emulator::start(&[]);
    let mut world = populated(&emulator, 4);
    for store in ["local", "cosmos"] {
        world.set("GITOPS_AGENT_STORE", store);
        if store == "cosmos" {
            world.ok(&["backfill", "--all"]);
        }
        let risky = world.ok(&["query", "--format", "csv", "--tag", "HIPAA"]);
        let mut follower = Follower::start(&world, &["--tag", "HIPAA", "--format", "csv"]);
        for line in risky.lines().take(2) {
            let mut read = String::new();
            follower.lines.read_line(&mut read).unwrap();
            assert_eq!(read.split(',').count(), line.split(',').count(), "{read}");
        }
        assert!(risky.lines().count() >= 2);
    }
    for words in [
        &["query", "--follow", "--format", "table"][..],
        &["query", "--follow", "--limit", "3"],
        &["query", "--cursor", "x"],
        &["query", "--follow", "--every", "0"],
    ] {
        assert_eq!(world.fails(words).0, 2, "{words:?}");
    }
}
