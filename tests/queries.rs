//! `query` as a person calls it: each filter gives the same answer from the local store and from Cosmos DB, no
//! setting, flag or value reaches another tenant's records, and slow operations are logged with what they cost.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use serde_json::Value;
use world::{Emulator, World};

/// A history with findings, several days and two levels.
fn populate(world: &World) {
    world.history(12);
    world.commit("src/auth/session.py", "verify = False\nSESSION_TIMEOUT = 10\n", "Shorten the session");
    world.commit("src/audit/log.py", "import logging\naudit_log.disable()\n", "Quiet the audit log");
}

fn found(world: &World, words: &[&str]) -> Vec<Value> {
    let text = world.ok(&[&["query", "--format", "ndjson"], words].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["id"].as_str().unwrap()).collect()
}

#[test]
fn every_filter_answers_alike_from_both_stores() {
    let emulator = Emulator::start(&[]);
    let mut world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    populate(&world);
    world.ok(&["store", "init"]);
    world.ok(&["backfill", "--all"]);
    let all = found(&world, &[]);
    world.set("GITOPS_AGENT_STORE", "local");
    world.ok(&["backfill", "--all"]);
    assert_eq!(all.len(), 16);

    // Values that some record has, taken from the records.
    let with = all.iter().find(|record| record["findings"].as_array().is_some_and(|all| !all.is_empty()));
    let with = with.expect("the history has a finding");
    let text = |pointer: &str| with.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let (rule, citation) = (text("/findings/0/rule"), text("/findings/0/citations/0"));
    let (tag, level, day, id) = (text("/compliance/0"), text("/riskLevel"), text("/commitDate"), text("/id"));
    let some: &[(&[&str], bool)] = &[
        (&["--rule", &rule], true),
        (&["--citation", &citation], true),
        (&["--citation", citation.split('(').next().unwrap()], true),
        (&["--tag", &tag], true),
        (&["--level", &level], true),
        (&["--path", "src/auth/"], true),
        (&["--path", "src/module3/service.py"], true),
        (&["--author", "ADA@example.com"], true),
        (&["--author", "Ada Author"], true),
        (&["--commit", &id], true),
        (&["--commit", &id, "--since", &day, "--until", &day], true),
        (&["--since", &day, "--until", &day, "--rule", &rule, "--author", "ada@example.com"], true),
        (&["--since", "2023-01-01", "--until", "2023-12-31", "--min-risk", "0.05"], true),
        (&["--path", "side/", "--limit", "1"], true),
        (&["--rule", "no.such.rule"], false),
        (&["--author", "carl@example.com"], false),
        (&["--since", "2024-01-01"], false),
    ];
    for (words, any) in some {
        world.set("GITOPS_AGENT_STORE", "cosmos");
        let cosmos = found(&world, words);
        world.set("GITOPS_AGENT_STORE", "local");
        let local = found(&world, words);
        assert_eq!(ids(&cosmos), ids(&local), "{words:?}");
        assert_eq!(!cosmos.is_empty(), *any, "{words:?}");
        assert!(
            cosmos.len() < all.len() || words.contains(&"--author") || words.contains(&"--min-risk"),
            "{words:?}"
        );
    }
}

#[test]
fn a_pseudonym_is_found_by_the_address() {
    let world = World::new();
    std::fs::write(world.home().join("config.toml"), "[privacy]\nauthor = \"hash\"\n").unwrap();
    let id = world.commit("a.txt", "one\n", "One");
    world.ok(&["backfill"]);
    let records = found(&world, &["--author", "ada@EXAMPLE.com"]);
    assert_eq!(ids(&records), [id]);
    assert!(!records[0].to_string().to_lowercase().contains("ada@example.com"));
    assert_eq!(found(&world, &["--author", "carl@example.com"]), [Value::Null; 0]);
}

#[test]
fn nothing_reaches_another_tenant() {
    let emulator = Emulator::start(&[]);
    let mut world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    populate(&world);
    world.ok(&["backfill"]);
    let own = found(&world, &[]);
    let id = own[0]["id"].as_str().unwrap().to_owned();
    let day = own[0]["commitDate"].as_str().unwrap().to_owned();
    // The same commits in two other tenants, and in the local store under each name.
    for tenant in ["clinic-b", "clinic-a2"] {
        world.set("GITOPS_AGENT_TENANT", tenant);
        world.ok(&["backfill"]);
        assert_eq!(found(&world, &[]).len(), own.len());
    }
    world.set("GITOPS_AGENT_STORE", "local");
    for tenant in ["clinic-a", "clinic-b", "clinic-a2"] {
        world.set("GITOPS_AGENT_TENANT", tenant);
        world.ok(&["backfill"]);
    }
    world.set("GITOPS_AGENT_TENANT", "clinic-a");

    let hostile = [
        "clinic-b",
        "' OR c.tenantId = 'clinic-b",
        "\" OR 1=1 --",
        "x') OR (c.tenantId = 'clinic-b') --",
        "%",
        "*",
        "clinic-a\u{0}clinic-b",
        "[\"clinic-b\"]",
        "@tenant",
    ];
    let flags = [
        "--since",
        "--until",
        "--min-risk",
        "--tag",
        "--commit",
        "--level",
        "--rule",
        "--citation",
        "--path",
        "--author",
        "--limit",
    ];
    let (mut answered, mut refused) = (0, 0);
    for store in ["cosmos", "local"] {
        world.set("GITOPS_AGENT_STORE", store);
        let mut calls: Vec<Vec<String>> = vec![
            vec!["--commit".into(), id.clone()],
            vec!["--commit".into(), id.clone(), "--since".into(), day.clone(), "--until".into(), day.clone()],
            vec!["--since".into(), day.clone(), "--until".into(), day.clone()],
            vec!["--path".into(), "src/".into()],
            vec!["--author".into(), "ada@example.com".into(), "--level".into(), "low".into()],
        ];
        for flag in flags {
            calls.extend(
                hostile
                    .iter()
                    .filter(|value| !value.contains('\0'))
                    .map(|value| vec![flag.into(), (*value).into()]),
            );
        }
        for call in calls {
            let words: Vec<&str> =
                ["query", "--format", "ndjson"].into_iter().chain(call.iter().map(String::as_str)).collect();
            let output = world.output(&words);
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                let record: Value = serde_json::from_str(line).unwrap();
                assert_eq!(record["tenantId"], "clinic-a", "{store}: {call:?}");
                answered += 1;
            }
            refused += usize::from(output.status.code() == Some(2));
        }
        // A tenant is a name, by flag and by setting: nothing that means several is one.
        for name in hostile.iter().filter(|name| **name != "clinic-b" && !name.contains('\0')) {
            assert_eq!(world.fails(&["query", "--tenant", name]).0, 2, "{name}");
            let output = world
                .agent(&["query", "--format", "ndjson"])
                .env("GITOPS_AGENT_TENANT", name)
                .output()
                .unwrap();
            assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{name}");
        }
        // Another container's or database's name does not widen the tenant either.
        for (setting, value) in [("COSMOS_CONTAINER", "commits/docs"), ("COSMOS_DATABASE", "../gitops")] {
            let output = world.agent(&["query", "--format", "ndjson"]).env(setting, value).output().unwrap();
            if store == "cosmos" {
                assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{setting}");
            }
        }
    }
    assert!(answered > 4 * 5 && refused > 40, "{answered} records, {refused} refusals");
}

#[test]
fn what_is_slow_is_logged_with_its_cost() {
    let emulator = Emulator::start(&["--latency-ms", "120"]);
    let world = World::with_cosmos(emulator.endpoint(), "clinic-a");
    world.ok(&["store", "init"]);
    world.commit("a.txt", "one\n", "One");
    world.ok(&["backfill"]);
    let output = world.output(&["-v", "query"]);
    let said = String::from_utf8(output.stderr).unwrap();
    let slow = said.lines().find(|line| line.contains("slow store operation") && line.contains("charge="));
    let slow = slow.unwrap_or_else(|| panic!("{said}"));
    assert!(
        slow.contains("request_units=") && slow.contains("latency_ms=") && slow.contains("diagnostics="),
        "{slow}"
    );
    assert!(!said.contains(world::EMULATOR_KEY));
    // The whole query, too, with its sum.
    assert!(said.lines().any(|line| line.contains(" query ") && line.contains("request_units=")), "{said}");
    assert!(!said.contains('\u{1b}'), "colours in a pipe");
    // Unasked, nobody is told.
    assert_eq!(String::from_utf8_lossy(&world.output(&["query"]).stderr), "");
}
