//! What kind of repository this is, from outside: inferred, carried, set, and what follows for the tags.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "the harness serves more than this file")]

mod world;

use std::fs;

use serde_json::{Value, json};
use world::World;

const README: &str =
    "# Loop\n\nClosed-loop insulin delivery: reads glucose from a CGM and sets the basal rate of a pump.\n";

fn class(record: &Value) -> (String, String) {
    let text = |key: &str| record["class"][key].as_str().unwrap().to_owned();
    (text("value"), text("origin"))
}

fn pair(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

#[test]
fn the_hook_infers_and_backfill_elsewhere_agrees() {
    let world = World::new();
    let plain = world.commit("src/a.py", "x = 1\n", "Begin");
    let notes = || String::from_utf8(world.output(&["install"]).stderr).unwrap();
    assert!(notes().contains("class is unknown"), "{}", notes());
    let id = world.commit("README.md", README, "Say what it is");
    let limit = world.commit("lib/basal.js", "max_basal = 2\n", "Add the limit");
    let record = world.delivered(&limit);
    assert_eq!(class(&record), pair("device", "inferred"));
    assert!(record["compliance"].as_array().unwrap().contains(&json!("FDA")));
    let kept: Value =
        serde_json::from_slice(&std::fs::read(world.repo().join(".git/gitops-agent/class.json")).unwrap())
            .unwrap();
    assert_eq!(kept["seen"]["class"], "device");
    assert!(notes().contains("seems to be device ("), "{}", notes());

    let explained = world.ok(&["explain", "HEAD"]);
    assert!(explained.contains("class device (inferred from "), "{explained}");
    assert!(explained.contains("git config gitops-agent.class"), "{explained}");

    // A clone knows nothing of the hook's file, and finds the same.
    let clone = world.root().join("clone");
    world.git(&["clone", "-q", ".", clone.to_str().unwrap()]);
    let text = world.ok(&["backfill", "--dry-run", "--json", "--repo", clone.to_str().unwrap()]);
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |id: &str| records.iter().find(|record| record["id"] == id).unwrap();
    assert_eq!(find(&limit)["digest"], record["digest"]);
    assert_eq!(find(&id)["digest"], world.delivered(&id)["digest"]);
    assert_eq!(class(find(&plain)), pair("unknown", "unknown"));
}

#[test]
fn a_carried_class_raises_and_never_lowers() {
    let world = World::new();
    let explain = || class(&world.json(&["explain", "--json"]));
    world.commit("README.md", README, "Begin");
    assert_eq!(explain(), pair("device", "inferred"));
    world.commit(".gitops-agent.toml", "class = \"other\"\n", "Say less");
    assert_eq!(explain(), pair("device", "inferred"));
    world.commit(".gitops-agent.toml", "class = \"records\"\n", "Say more");
    assert_eq!(explain(), pair("records", "carried"));
    world.git(&["config", "gitops-agent.class", "ehr"]);
    assert_eq!(explain(), pair("ehr", "set"));
}

#[test]
fn a_broken_file_of_the_hook_is_as_none() {
    let world = World::new();
    world.commit("README.md", README, "Begin");
    let folder = world.repo().join(".git/gitops-agent");
    std::fs::create_dir_all(&folder).unwrap();
    for broken in [
        "",
        "{",
        "{\"version\":0,\"face\":\"\",\"seen\":{\"class\":\"other\",\"sure\":true,\"reasons\":[]},\"tree\":null}",
    ] {
        std::fs::write(folder.join("class.json"), broken).unwrap();
        assert_eq!(class(&world.json(&["explain", "--json"])), pair("device", "inferred"), "{broken}");
    }
}

#[test]
fn manifests_and_declarations_reach_the_record() {
    let world = World::new();
    world.git(&["config", "gitops-agent.class", "device"]);
    world.git(&["config", "gitops-agent.declarations", "required"]);
    let manifest = |version: &str| format!("{{\"dependencies\": {{\"jsonwebtoken\": \"{version}\"}}}}\n");
    world.commit("package.json", &manifest("8.5.1"), "Begin");
    world.commit("package.json", &manifest("9.0.0"), "Update\n\nPHI-Impact: None");
    let record = world.json(&["explain", "--json"]);
    let points = |rule: &str| {
        let findings = record["findings"].as_array().unwrap();
        findings
            .iter()
            .find(|finding| finding["rule"] == rule)
            .map(|finding| finding["points"].as_f64().unwrap())
    };
    // 10, and 15 for cryptography, and 5 for the major version.
    assert_eq!(points("fda.component.changed"), Some(30.0));
    assert_eq!(points("hipaa.authentication.component-changed"), Some(25.0));
    assert_eq!(points("declared.phi.less-than-found"), Some(5.0));
    assert_eq!(points("declared.nothing.stated"), None);
    assert!(
        record["rules"]["packs"].as_array().unwrap().iter().any(|pack| pack["id"] == "declared-required")
    );
    world.commit("package.json", &manifest("9.0.1"), "Update again");
    let record = world.json(&["explain", "--json"]);
    let findings = record["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["rule"] == "declared.nothing.stated"));
}

#[test]
fn a_bench_counts_what_the_rules_find() {
    let world = World::new();
    world.git(&["config", "gitops-agent.class", "ehr"]);
    world.commit("src/A.java", "  auditLog.record(user);\n", "Begin");
    world.commit("src/A.java", "  x();\n", "Tidy");
    world.commit("src/B.java", "  y();\n", "More");
    let bench = world.json(&["rules", "bench", "--json"]);
    assert_eq!(bench["commits"], 3);
    let rule =
        |id: &str| bench["rules"].as_array().unwrap().iter().find(|rule| rule["rule"] == id).unwrap().clone();
    let removed = rule("hipaa.audit.call-removed");
    assert_eq!((removed["commits"].as_u64(), removed["hits"].as_u64()), (Some(1), Some(1)));
    assert_eq!(removed["share"], 0.3333);
    assert!(bench["tags"]["HIPAA"].as_f64().unwrap() > 0.3);
    assert!(world.ok(&["rules", "bench", "--limit", "1"]).contains("1 commits judged"));
}

#[test]
fn a_bench_names_what_another_version_of_a_pack_would_change() {
    let world = World::new();
    world.commit("src/Records.java", "auditLog.record(user, VIEW, patient);\n", "Begin");
    let id = world.commit("src/Records.java", "int x;\n", "Tidy");
    // The pack as it is, but for the audit rules, and one of its own.
    let other = world.root().join("other/hipaa");
    fs::create_dir_all(&other).unwrap();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/rules/hipaa")).unwrap().flatten() {
        let text = fs::read_to_string(file.path()).unwrap();
        if !file.file_name().to_string_lossy().starts_with("audit") {
            fs::write(
                other.join(file.file_name()),
                text.replace("hipaa.session.lifetime", "hipaa.session.span"),
            )
            .unwrap();
        }
    }
    let folder = other.to_str().unwrap();
    let bench = world.json(&["rules", "bench", "--against", folder, "--json"]);
    assert_eq!(bench["commits"], 2);
    assert!(bench["gained"]["HIPAA"].as_u64().unwrap() >= 1, "{bench}");
    assert_eq!(bench["lost"], serde_json::json!({}));
    let changed = bench["changed"].as_array().unwrap();
    assert!(
        changed
            .iter()
            .any(|row| row["commit"] == id.as_str() && row["gained"] == serde_json::json!(["FDA", "HIPAA"])
                || row["gained"] == serde_json::json!(["HIPAA"])),
        "{bench}"
    );
    let rule = bench["rules"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["rule"] == "hipaa.audit.call-removed")
        .unwrap();
    assert_eq!((&rule["commits"], &rule["commitsBefore"]), (&1.into(), &0.into()));
    let table = world.ok(&["rules", "bench", "--against", folder]);
    assert!(table.contains("more and 0 fewer than with --against") && table.contains(&id[..12]), "{table}");
    // The same version changes nothing.
    let same = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/hipaa");
    let bench = world.json(&["rules", "bench", "--against", same, "--json"]);
    assert_eq!(
        (&bench["gained"], &bench["lost"], &bench["changed"]),
        (&serde_json::json!({}), &serde_json::json!({}), &serde_json::json!([]))
    );
    fs::write(other.join("broken.toml"), "[[rule]]\n").unwrap();
    assert_eq!(world.fails(&["rules", "bench", "--against", folder]).0, 2);
}
