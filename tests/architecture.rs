//! Holds the edges between the modules that `src/lib.rs` draws: who may use whom, who alone may name a
//! foreign crate, and what the library may never do.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// For each module of the library: the modules it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("archive", &["hex", "record", "store"]),
    ("calibration", &["risk"]),
    ("capture", &["facts", "hex"]),
    ("config", &["destination", "record", "risk", "rules"]),
    ("deferred", &["destination", "durable"]),
    ("delivery", &["destination", "judgement", "outbox", "store"]),
    ("destination", &[]),
    ("detach", &["outbox", "delivery"]),
    ("disk", &[]),
    ("durable", &["disk"]),
    ("facts", &[]),
    ("fuzzing", &["capture", "config", "deferred", "facts", "outbox", "record", "rules"]),
    ("hex", &[]),
    ("hints", &["durable"]),
    ("history", &["capture"]),
    ("inferred", &["capture", "hints", "rules"]),
    ("install", &["hex"]),
    ("judgement", &[]),
    ("outbox", &["calibration", "destination", "durable", "hex", "judgement", "sqlite"]),
    ("last_good", &["durable", "hex", "rules"]),
    ("literals", &[]),
    ("record", &["facts", "hex", "literals", "risk", "rules"]),
    ("reconcile", &["capture", "hints", "outbox"]),
    ("recorder", &["capture", "config", "facts", "inferred", "record", "risk", "rules"]),
    ("risk", &["facts", "rules"]),
    ("rules", &["facts", "hex", "literals"]),
    ("sqlite", &["disk", "durable"]),
    ("store", &["destination", "sqlite"]),
    ("szz", &["calibration", "capture", "history"]),
    ("time_limit", &["deferred", "durable"]),
    ("verify", &["record"]),
];

/// Foreign crates that only one room may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("git2", &["capture"]),
    ("azure_", &["store/cosmos"]),
    ("reqwest", &["store/cosmos"]),
    ("rusqlite", &["outbox", "sqlite", "store/local"]),
    ("imara_diff", &["capture"]),
    ("tokio", &["cli", "delivery", "store"]),
    ("clap", &["cli"]),
    ("mimalloc", &["cli/allocator"]),
    ("libmimalloc_sys", &["cli/allocator"]),
    ("indicatif", &["cli"]),
    ("libgit2_sys", &["capture/room"]),
    ("libdeflate_sys", &["capture/zlib"]),
    ("libz_rs_sys", &["capture/zlib"]),
    ("libz_sys", &["capture/zlib"]),
    (
        "libc",
        &["capture/room", "cli/start", "delivery/lock", "detach", "disk", "hints", "outbox", "time_limit"],
    ),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Path below `src` without its ending, and the code without comments and tests.
fn code() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root)
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(&root).unwrap().with_extension("").to_string_lossy().into_owned();
            let code: Vec<&str> = text
                .split("#[cfg(test)]\nmod tests")
                .next()
                .unwrap()
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            (name, code.join("\n"))
        })
        .filter(|(name, _)| !name.ends_with("tests"))
        .collect()
}

fn room(name: &str) -> &str {
    name.split('/').next().unwrap()
}

#[test]
fn modules_use_only_what_the_map_allows() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        MAY_USE.iter().map(|(room, uses)| (*room, uses.iter().copied().collect())).collect();
    let mut wrong = BTreeSet::new();
    for (name, code) in code() {
        let room = room(&name);
        if matches!(room, "lib" | "main" | "cli") {
            continue;
        }
        let uses = allowed.get(room).unwrap_or_else(|| panic!("{room} is not on the map"));
        for part in code.split("crate::").skip(1) {
            let used: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if used != room && !uses.contains(used.as_str()) {
                wrong.insert(format!("{name} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that the map does not allow: {wrong:#?}");
}

#[test]
fn the_map_names_modules_that_are_there() {
    let rooms: BTreeSet<String> = code().iter().map(|(name, _)| room(name).to_owned()).collect();
    for (room, uses) in MAY_USE {
        for name in std::iter::once(room).chain(*uses) {
            assert!(rooms.contains(*name), "{name} is on the map but not in src");
        }
    }
}

#[test]
fn foreign_crates_stay_in_their_rooms() {
    let mut wrong = BTreeSet::new();
    for (name, code) in code() {
        for (foreign, rooms) in ONLY_IN {
            let names_it =
                code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).any(|word| {
                    word.split("::").next().is_some_and(|first| {
                        if foreign.ends_with('_') { first.starts_with(foreign) } else { first == *foreign }
                    }) && word.contains("::")
                });
            if names_it && !rooms.iter().any(|room| name == *room || name.starts_with(&format!("{room}/"))) {
                wrong.insert(format!("{name} names {foreign}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_library_neither_prints_nor_exits_nor_reads_the_environment() {
    let mut wrong = BTreeSet::new();
    for (name, code) in code() {
        if matches!(room(&name), "main" | "cli") {
            continue;
        }
        for forbidden in ["println!", "print!(", "process::exit", "env::var", "env::args", "env::current_dir"]
        {
            if code.contains(forbidden) {
                wrong.insert(format!("{name}: {forbidden}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_hook_path_has_no_asynchronous_code() {
    for (name, code) in code() {
        if matches!(room(&name), "delivery" | "store" | "cli" | "main") {
            continue;
        }
        assert!(!code.contains("async fn") && !code.contains(".await"), "{name} is asynchronous");
    }
}
