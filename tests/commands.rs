//! The outside: exit codes, messages with the next step, and what is never printed.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use world::{EMULATOR_KEY, World};

#[test]
fn wrong_usage_settings_and_repositories_end_with_2_and_say_what_to_do() {
    let world = World::new();
    world.commit("a.txt", "one\n", "One");
    let nowhere = world.root().join("nowhere");
    std::fs::create_dir(&nowhere).unwrap();
    let nowhere = nowhere.to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["explain", "no-such-revision"], "no-such-revision"),
        (&["backfill", "v1..v2"], "v1"),
        (&["backfill", "--repo", nowhere], "repository"),
        (&["verify", "--repo", nowhere], "repository"),
        (&["install", "--repo", nowhere], "repository"),
        (&["query", "--tenant", "a b"], "1 to 64"),
        (&["query", "--since", "yesterday"], "2026-07-01"),
        (&["query", "--min-risk", "7"], "0 to 1"),
        (&["query", "--commit", "zz"], "hexadecimal"),
        (&["rules", "check", "--rules", nowhere], "pack.toml"),
        (&["backfill", "--since", "last week"], "2026-07-01"),
        (&["frobnicate"], "frobnicate"),
        (&["outbox", "discard", "1234"], "1234"),
        (&["outbox", "retry", "1234"], "1234"),
        (&["query", "--since", "2026-07-02", "--until", "2026-07-01"], "later than"),
        (&["backfill", "--since", "2026-07-02", "--until", "2026-07-01"], "later than"),
    ];
    for (words, expected) in cases {
        let (code, message) = world.fails(words);
        assert_eq!(code, 2, "{words:?}: {message}");
        assert!(message.contains(expected), "{words:?}: {message}");
    }
}

#[test]
fn a_bad_rule_file_is_named_with_line_and_rule() {
    let world = World::new();
    world.commit("a.txt", "one\n", "One");
    let rules = world.root().join("rules/mine");
    std::fs::create_dir_all(&rules).unwrap();
    std::fs::write(
        rules.join("pack.toml"),
        "[pack]\nid = 'mine'\nversion = '1.0.0'\nformat = 1\nas_of = '2026-01-01'\nlicence = 'MIT'\nsurprise = 1\n",
    )
    .unwrap();
    let folder = world.root().join("rules");
    let (code, message) = world.fails(&["explain", "--rules", folder.to_str().unwrap()]);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("pack.toml") && message.contains("surprise"), "{message}");
    assert!(message.contains('7') || message.contains("line"), "{message}");
}

#[test]
fn a_bad_setting_names_value_origin_and_remedy() {
    let mut world = World::new();
    world.commit("a.txt", "one\n", "One");
    std::fs::write(world.home().join("config.toml"), "retention_days = 0\n").unwrap();
    let (code, message) = world.fails(&["status"]);
    assert_eq!(code, 2);
    assert!(message.contains("retention_days") && message.contains("config.toml"), "{message}");
    assert!(message.contains("next:"), "{message}");
    std::fs::remove_file(world.home().join("config.toml")).unwrap();
    world.set("GITOPS_AGENT_TENANT", "a/b");
    let (code, message) = world.fails(&["backfill"]);
    assert_eq!(code, 2);
    assert!(message.contains("GITOPS_AGENT_TENANT"), "{message}");
}

#[test]
fn config_show_marks_wrong_settings_and_shows_the_others() {
    let mut world = World::new();
    std::fs::write(world.home().join("config.toml"), "retention_days = 0\nclass = 'ehr'\n").unwrap();
    world.set("GITOPS_AGENT_TENANT", "a/b");
    let output = world.output(&["config", "show", "--origin"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("class = ehr"), "{text}");
    assert!(text.contains("tenant = a/b  # WRONG, environment (GITOPS_AGENT_TENANT): must be"), "{text}");
    assert!(text.contains("retention_days = 0  # WRONG, "), "{text}");
    assert_eq!(text.matches("tenant").count(), 1, "{text}");
    let output = world.output(&["config", "show", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["tenant"]["value"], "a/b");
    assert!(json["tenant"]["problem"].as_str().unwrap().contains("1 to 64"));
    assert_eq!(json["class"]["value"], "ehr");
}

#[test]
fn what_is_settled_cannot_be_discarded_and_says_so_first() {
    let world = World::new();
    let id = world.commit("a.txt", "one\n", "One");
    let said = world.ok(&["backfill"]);
    assert!(said.starts_with("1 commit: "), "{said}");
    let (code, message) = world.fails(&["outbox", "discard", &id]);
    assert_eq!(code, 2);
    assert!(!message.contains("--yes") && message.contains(&id), "{message}");
    world.git(&["commit", "-q", "--allow-empty", "-m", "Two"]);
    let id = world.git(&["rev-parse", "HEAD"]);
    world.ok(&["backfill", "--no-flush"]);
    assert!(world.fails(&["outbox", "discard", &id]).1.contains("--yes"));
}

#[test]
fn each_command_has_its_own_examples() {
    let world = World::bare();
    let help = world.ok(&["uninstall", "--help"]);
    assert!(
        help.contains("gitops-agent uninstall --global") && !help.contains("gitops-agent install "),
        "{help}"
    );
    assert!(world.ok(&["install", "--help"]).contains("gitops-agent install --dry-run"));
}

#[test]
fn store_check_names_the_tenant() {
    let mut world = World::new();
    let check = world.json(&["store", "check", "--json"]);
    let row = check.as_array().unwrap().iter().find(|row| row["name"] == "tenant").unwrap().clone();
    assert_eq!((&row["ok"], row["detail"].as_str().unwrap()), (&true.into(), "local (built-in)"));
    world.set("COSMOS_ENDPOINT", "http://127.0.0.1:9");
    world.set("COSMOS_KEY", EMULATOR_KEY);
    let output = world.output(&["store", "check", "--json"]);
    let check: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = check.as_array().unwrap().iter().find(|row| row["name"] == "tenant").unwrap().clone();
    assert_eq!(row["ok"], false);
}

#[test]
fn config_show_tells_origins_and_never_the_key() {
    let mut world = World::with_cosmos("http://127.0.0.1:9", "clinic-a");
    world.git(&["config", "gitops-agent.class", "device"]);
    let text = world.ok(&["config", "show", "--origin"]);
    assert!(text.contains("tenant = clinic-a  # environment (GITOPS_AGENT_TENANT)"), "{text}");
    assert!(text.contains("class = device  # git config (local)\n"), "{text}");
    assert!(text.contains("retention_days = 2557  # built-in"), "{text}");
    assert!(!text.contains(EMULATOR_KEY), "{text}");
    // Not even where it is wrong.
    world.set("COSMOS_KEY", "bm90LXRoZS1rZXk=");
    for words in [&["store", "check"][..], &["flush"], &["-vv", "query"]] {
        let output = world.output(words);
        let all = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&all).contains("bm90LXRoZS1rZXk"), "{words:?}");
    }
}

#[test]
fn version_names_the_rules() {
    let world = World::bare();
    let text = world.ok(&["--version"]);
    assert!(text.starts_with(concat!("gitops-agent ", env!("CARGO_PKG_VERSION"), " (rules ")), "{text}");
}

#[test]
fn control_characters_of_a_commit_do_not_reach_the_terminal() {
    let world = World::new();
    world.commit("a\u{1b}[31mred.txt", "one\n", "Red \u{1b}[2J and \u{7} bell");
    world.ok(&["backfill"]);
    for words in [&["explain"][..], &["query"], &["query", "--format", "csv"]] {
        let text = world.ok(words);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{words:?}: {text:?}");
    }
}

#[test]
fn every_format_of_query_has_the_same_commits() {
    let world = World::new();
    world.history(5);
    world.ok(&["backfill"]);
    let table = world.ok(&["query"]);
    assert_eq!(table.lines().count(), 6, "{table}");
    let json = world.json(&["query", "--format", "json"]);
    assert_eq!(json.as_array().unwrap().len(), 5);
    let csv = world.ok(&["query", "--format", "csv"]);
    assert_eq!(csv.lines().count(), 6);
    assert_eq!(world.ok(&["query", "--format", "ndjson", "--limit", "2"]).lines().count(), 2);
    let id = world.git(&["rev-parse", "HEAD"]);
    let one = world.json(&["query", "--commit", &id[..8], "--format", "json"]);
    assert_eq!(one[0]["id"], id);
    assert_eq!(
        world.json(&["query", "--tenant", "somebody-else", "--format", "json"]),
        serde_json::json!([])
    );
}

#[test]
fn rules_can_be_listed_and_checked() {
    let world = World::bare();
    assert!(world.ok(&["rules", "list"]).lines().count() > 20);
    let report = world.json(&["rules", "check", "--json"]);
    assert_eq!(report["failures"], serde_json::json!([]));
    let text = world.ok(&["rules", "list", "hipaa.audit.call-removed"]);
    for part in [
        "Audit call deleted",
        "why: ",
        "ask: ",
        "HIPAA: 45cfr164.312(b) Audit controls https://",
        "finds: call deleted",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(world.fails(&["rules", "list", "hipaa.no.such"]).0, 2);
}

#[test]
fn a_failing_example_is_named_with_file_line_and_rule() {
    let world = World::bare();
    let pack = world.root().join("own");
    std::fs::create_dir(&pack).unwrap();
    let manual = include_str!("../docs/rules.md");
    let example = manual.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let line = 1 + example.lines().position(|line| line == "[[rule]]").unwrap();
    let unused = "[[citation]]\nid = \"sop-9\"\ntitle = \"Nobody asks\"\n";
    std::fs::write(
        pack.join("pack.toml"),
        format!(
            "{}{unused}",
            example
                .replace("AuditSink.Write(e);\"\nexpect = \"match\"", "Sink.Write(e);\"\nexpect = \"match\"")
        ),
    )
    .unwrap();
    let output = world.output(&["rules", "check", "--rules", pack.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!(
            "FAIL own/pack.toml:{line}: rule house.audit.sink-removed: \"deleted\": expected a match"
        )),
        "{text}"
    );
    assert!(text.contains("note my-pack: no rule cites sop-9"), "{text}");
}

#[test]
fn completions_and_manual_pages_are_made_from_the_parser() {
    let world = World::bare();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.ok(&["completions", shell]).contains("backfill"), "{shell}");
    }
    assert!(world.ok(&["man"]).contains(".TH gitops-agent"));
    let pages = world.root().join("man");
    world.ok(&["man", "--out", pages.to_str().unwrap()]);
    assert!(pages.join("gitops-agent-backfill.1").is_file());
}

#[test]
fn help_has_every_command_of_the_contract() {
    let world = World::bare();
    let help = world.ok(&["--help"]);
    for command in [
        "hook",
        "install",
        "uninstall",
        "backfill",
        "status",
        "flush",
        "explain",
        "query",
        "export",
        "import",
        "outbox",
        "rules",
        "verify",
        "store",
        "doctor",
        "config",
        "completions",
        "man",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {help}");
        world.ok(&[command, "--help"]);
    }
}

/// The program begins by itself (`src/cli/start.rs`), and a write into such a pipe is a signal by default.
#[test]
fn a_reader_that_has_gone_ends_nothing_by_a_signal() {
    let world = World::new();
    world.history(40);
    world.ok(&["backfill"]);
    let agent = world::agent();
    // More than a pipe holds; `sh` says 128 and the signal's number.
    let script = format!("{{ '{agent}' query --format json; echo $? >code; }} | head -c 10");
    let output = world.shell(&script).output().unwrap();
    assert_eq!(output.stdout.len(), 10);
    let code: i32 = std::fs::read_to_string(world.repo().join("code")).unwrap().trim().parse().unwrap();
    assert!(code < 128, "{code}");
}
