//! Broken rule packs under a working hook: the packs as they last loaded judge, the record says so truthfully,
//! `status` names the place and the stand-in, and the mended packs judge again what they replaced.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use world::World;

const HEAD: &str = "[pack]\nid = \"own\"\nversion = \"1.2.0\"\nformat = 1\nmin_tool = \"0.1.0\"\nas_of = \"2026-09-01\"\n\
                    licence = \"MIT\"\n[[citation]]\nid = \"sop-7\"\ntitle = \"House rule\"\n";

const RULE: &str = r#"[[rule]]
id = "own.topic.name"
version = 3
status = "stable"
title = "Magic word"
why = "It is magic."
ask = "Which magic?"
tags = { HOUSE = ["sop-7"] }
severity = "high"
weight = 40
keywords = ["magic"]
[rule.sel.word]
in = "added"
regex = ['\bmagic\(']
[rule.when]
all = ["word"]
[[rule.test]]
name = "hit"
path = "a.c"
diff = "+magic(1)"
expect = "match"
[[rule.test]]
name = "miss"
path = "a.c"
diff = "+magical(1)"
expect = "no_match"
"#;

/// A repository with hooks under a folder of good packs, and the folder of the one pack.
fn world() -> (World, PathBuf) {
    let mut world = World::new();
    let pack = world.root().join("rules/own");
    good(&pack, "1.2.0");
    world.set("GITOPS_AGENT_RULES", world.root().join("rules").to_str().unwrap());
    world.ok(&["install"]);
    (world, pack)
}

fn good(pack: &Path, version: &str) {
    let _ = fs::remove_dir_all(pack.parent().unwrap());
    fs::create_dir_all(pack).unwrap();
    fs::write(pack.join("pack.toml"), HEAD.replace("1.2.0", version)).unwrap();
    fs::write(pack.join("rules.toml"), RULE).unwrap();
}

fn compliance(record: &Value) -> Vec<&str> {
    record["compliance"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect()
}

/// Commits and gives back what the hook said.
fn commit_aloud(world: &World, number: usize) -> (String, String) {
    fs::write(world.repo().join("a.c"), format!("magic({number});\n")).unwrap();
    world.git(&["add", "-A"]);
    let output = world.git_command(&["commit", "-q", "-m", "Use magic"]).output().unwrap();
    assert!(output.status.success());
    (world.git(&["rev-parse", "HEAD"]), String::from_utf8(output.stderr).unwrap())
}

type Break = Box<dyn Fn(&Path)>;

/// Each kind of broken pack: how it breaks, and what must be named.
fn kinds() -> Vec<(&'static str, Break, &'static [&'static str])> {
    let rules = |from: &'static str, to: &'static str| -> Break {
        Box::new(move |pack: &Path| fs::write(pack.join("rules.toml"), RULE.replace(from, to)).unwrap())
    };
    let head = |from: &'static str, to: &'static str| -> Break {
        Box::new(move |pack: &Path| fs::write(pack.join("pack.toml"), HEAD.replace(from, to)).unwrap())
    };
    vec![
        ("no TOML", rules("version = 3", "version ="), &["own/rules.toml:3"]),
        ("unknown key", rules("weight = 40", "weight = 40\nwieght = 3"), &["own/rules.toml:11", "wieght"]),
        ("bad regex", rules("magic\\(", "magic("), &["own/rules.toml:1", "own.topic.name", "unclosed group"]),
        (
            "dangling citation",
            rules("[\"sop-7\"]", "[\"sop-8\"]"),
            &["own.topic.name", "sop-8", "[[citation]]"],
        ),
        ("unknown selection", rules("all = [\"word\"]", "all = [\"wrd\"]"), &["own.topic.name", "wrd"]),
        ("no counter-example", rules("no_match", "match"), &["own.topic.name", "no_match"]),
        ("weight", rules("weight = 40", "weight = 400"), &["own.topic.name", "0 to 50"]),
        ("unknown format", head("format = 1", "format = 2"), &["own/pack.toml:1", "format 2"]),
        (
            "newer tool",
            head("min_tool = \"0.1.0\"", "min_tool = \"99.0.0\""),
            &["99.0.0", "update gitops-agent"],
        ),
        ("extends nothing", head("licence", "extends = [\"gone\"]\nlicence"), &["extends \"gone\""]),
        ("disables nothing", head("licence", "disable = [\"a.b.c\"]\nlicence"), &["disables \"a.b.c\""]),
        (
            "rule twice",
            Box::new(|pack| fs::write(pack.join("more.toml"), RULE).unwrap()),
            &["own.topic.name", "already used", "own/more.toml"],
        ),
        (
            "pack twice",
            Box::new(|pack| {
                let other = pack.with_file_name("zweite");
                fs::create_dir(&other).unwrap();
                fs::write(other.join("pack.toml"), HEAD).unwrap();
            }),
            &["zweite/pack.toml", "already loaded"],
        ),
        (
            "no pack.toml",
            Box::new(|pack| fs::remove_file(pack.join("pack.toml")).unwrap()),
            &["rules without a pack.toml"],
        ),
        (
            "no folder",
            Box::new(|pack| fs::remove_dir_all(pack.parent().unwrap()).unwrap()),
            &["rules folder exists"],
        ),
        ("empty folder", Box::new(|pack| fs::remove_dir_all(pack).unwrap()), &["no pack.toml"]),
        (
            "dead link",
            Box::new(|pack| {
                std::os::unix::fs::symlink("/nowhere/at/all", pack.join("more.toml")).unwrap();
            }),
            &["more.toml", "can be read"],
        ),
        ("a folder", Box::new(|pack| fs::create_dir(pack.join("more.toml")).unwrap()), &["no regular file"]),
        ("a pipe", Box::new(|pack| pipe(&pack.join("more.toml"))), &["more.toml", "no regular file"]),
        (
            "a pipe for a head",
            Box::new(|pack| {
                fs::remove_file(pack.join("pack.toml")).unwrap();
                pipe(&pack.join("pack.toml"));
            }),
            &["own/pack.toml", "no regular file"],
        ),
        (
            "too large",
            Box::new(|pack| fs::write(pack.join("more.toml"), "#".repeat(600 * 1024)).unwrap()),
            &["own/more.toml", "larger than"],
        ),
        (
            "not UTF-8",
            Box::new(|pack| fs::write(pack.join("more.toml"), b"# \xff\n").unwrap()),
            &["own/more.toml", "UTF-8"],
        ),
    ]
}

fn pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn whatever_breaks_the_last_good_packs_judge_and_status_says_so() {
    let (world, pack) = world();
    let good_digest = world.json(&["status", "--json"])["rules"]["digest"].clone();
    for (number, (kind, spoil, expected)) in kinds().into_iter().enumerate() {
        good(&pack, "1.2.0");
        let status = world.json(&["status", "--json"]);
        assert_eq!(status["rules"]["state"], "ok", "before {kind}");
        assert_eq!(status["rules"]["problem"], Value::Null);
        spoil(&pack);
        let (id, said) = commit_aloud(&world, number);
        assert_eq!(said.lines().count(), 1, "{kind}: {said}");
        assert!(said.contains("recorded by the last good packs"), "{kind}: {said}");
        let status = world.json(&["status", "--json"]);
        let problem = &status["rules"]["problem"];
        assert_eq!(
            (&status["rules"]["state"], &status["health"]),
            (&json!("broken"), &json!("degraded")),
            "{kind}"
        );
        assert_eq!(
            (&problem["instead"], &status["rules"]["digest"]),
            (&json!("last-good"), &good_digest),
            "{kind}"
        );
        assert!(problem["since"].is_string() && problem["keptAt"].is_string(), "{kind}: {problem}");
        let table = world.ok(&["status"]);
        for part in expected {
            assert!(
                problem["message"].as_str().unwrap().contains(part),
                "{kind}: {problem} does not name {part:?}"
            );
            assert!(table.contains(part) && said.contains(part), "{kind}: {table}{said}");
        }
        assert!(table.contains("judged by the last good packs, of "), "{table}");
        let record = world.delivered(&id);
        assert_eq!(record["rules"]["digest"], good_digest, "{kind}");
        assert_eq!(compliance(&record), ["HOUSE"], "{kind}");
        assert_eq!(world.fails(&["backfill"]).0, 2, "{kind}: a person is at hand");
    }
    // A record of the last good packs is as good as any while these are in force.
    good(&pack, "1.2.0");
    assert!(world.ok(&["flush"]).contains("nothing left"));
    world.ok(&["verify"]);
    assert_eq!(notes(&world), 0);
}

/// Notes of commits that wait for the mended packs.
fn notes(world: &World) -> usize {
    let mut folders = vec![world.home()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
            count += usize::from(entry.path().extension().is_some_and(|end| end == "note"));
        }
    }
    count
}

#[test]
fn mended_packs_of_a_higher_version_judge_again() {
    let (world, pack) = world();
    world.commit("a.c", "int one;\n", "Begin");
    fs::write(pack.join("rules.toml"), "[[rule]]\n").unwrap();
    let (id, _) = commit_aloud(&world, 1);
    assert_eq!(world.delivered(&id)["rules"]["packs"][4], json!({ "id": "own", "version": "1.2.0" }));
    let since = world.json(&["status", "--json"])["rules"]["problem"]["since"].clone();
    let (second, _) = commit_aloud(&world, 2);
    world.delivered(&second);
    assert_eq!(
        world.json(&["status", "--json"])["rules"]["problem"]["since"],
        since,
        "the first time counts"
    );
    assert_eq!(notes(&world), 2);
    good(&pack, "1.3.0");
    fs::write(pack.join("rules.toml"), RULE.replace("HOUSE", "HOME")).unwrap();
    world.ok(&["flush"]);
    for id in [&id, &second] {
        let record = world.delivered(id);
        assert_eq!(record["rules"]["packs"][4]["version"], "1.3.0");
        assert_eq!(compliance(&record), ["HOME"]);
    }
    assert_eq!(notes(&world), 0);
}

#[test]
fn without_a_copy_the_built_in_packs_judge_alone() {
    let (world, pack) = world();
    for entry in fs::read_dir(world.home()).unwrap().flatten() {
        let _ = fs::remove_dir_all(entry.path().join("rules"));
    }
    fs::write(pack.join("rules.toml"), "[[rule]]\n").unwrap();
    let (id, said) = commit_aloud(&world, 1);
    assert!(said.contains("recorded by the built-in packs alone"), "{said}");
    let status = world.json(&["status", "--json"]);
    assert_eq!(
        (&status["rules"]["problem"]["instead"], &status["rules"]["problem"]["keptAt"]),
        (&json!("built-in"), &Value::Null)
    );
    let record = world.delivered(&id);
    assert_eq!(record["rules"]["packs"].as_array().unwrap().len(), 5);
    assert_eq!(record["rules"]["digest"], status["rules"]["digest"]);
    good(&pack, "1.2.0");
    world.ok(&["flush"]);
    assert_eq!(compliance(&world.delivered(&id)), ["HOUSE"], "an absent pack is lower than any version");
}

#[test]
fn a_copy_is_its_owners_alone_and_a_trial_leaves_none() {
    let (world, pack) = world();
    let copies = || -> Vec<PathBuf> {
        let mut folders = vec![world.home()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if entry.path().extension().is_some_and(|end| end == "packs") {
                    found.push(entry.path());
                }
            }
        }
        found
    };
    world.ok(&["status"]);
    let before = copies();
    assert_eq!(before.len(), 1);
    assert_eq!(fs::metadata(&before[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let trial = world.root().join("trial/own");
    good(&trial, "9.0.0");
    world.ok(&["rules", "list", "--rules", trial.to_str().unwrap()]);
    assert_eq!(copies(), before);
    good(&pack, "1.4.0");
    world.ok(&["status"]);
    assert_eq!(copies().len(), 1);
    assert_ne!(copies(), before);
}
