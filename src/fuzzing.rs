//! One function for each parser of what others wrote, with what must hold whatever they wrote. Compiled for the fuzzer
//! (`fuzz/`), which looks for inputs, and for the tests, which try seeds, their mutations and everything that
//! was ever found. No part of the program.

use crate::capture;
use crate::config;
use crate::deferred;
use crate::facts::Manifest;
use crate::outbox;
use crate::record::{Declared, redact};
use crate::rules;

/// Separates the two parts of an input that has two.
const BETWEEN: &[u8] = b"\n====\n";

/// The names of manifests, chosen by the first byte of an input.
const MANIFESTS: [&str; 28] = [
    "Cargo.toml",
    "Cargo.lock",
    "package.json",
    "package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "gradle.lockfile",
    "libs.versions.toml",
    "go.mod",
    "requirements.txt",
    "Pipfile",
    "Pipfile.lock",
    "pyproject.toml",
    "poetry.lock",
    "a.csproj",
    "packages.lock.json",
    "Gemfile",
    "Gemfile.lock",
    "composer.json",
    "composer.lock",
    "Podfile",
    "Podfile.lock",
    "Package.swift",
    "Package.resolved",
    "Dockerfile",
];

/// A target's name, and what it does with an input.
type Target = (&'static str, fn(&[u8]));

/// The targets.
pub const TARGETS: [Target; 10] = [
    ("diff", diff),
    ("commit", capture::fuzz::commit),
    ("reflog", capture::fuzz::reflog),
    ("pack", pack),
    ("carried", rules::fuzz::carried),
    ("manifest", manifest),
    ("settings", settings),
    ("spool", spool),
    ("note", note),
    ("message", message),
];

/// Runs a target by name; an unknown one does nothing.
pub fn run(target: &str, data: &[u8]) {
    if let Some((_, run)) = TARGETS.iter().find(|(name, _)| *name == target) {
        run(data);
    }
}

/// Old and new content.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memmem::find(data, BETWEEN) {
        Some(at) => (&data[..at], &data[at + BETWEEN.len()..]),
        None => data.split_at(data.len() / 2),
    }
}

fn diff(data: &[u8]) {
    let (old, new) = halves(data);
    capture::fuzz::diff(old, new);
}

fn pack(data: &[u8]) {
    rules::fuzz::pack(&String::from_utf8_lossy(data));
}

/// Two versions of a manifest: nothing changes between equal ones.
fn manifest(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let name = MANIFESTS[usize::from(*first) % MANIFESTS.len()];
    let (old, new) = halves(rest);
    let changes = |old: &[u8], new: &[u8]| {
        let manifest = Manifest::new(name.as_bytes(), Some(old), Some(new));
        assert!(manifest.is_some(), "{name} is no manifest");
        manifest.map_or(0, |manifest| manifest.changes().len())
    };
    changes(old, new);
    assert_eq!(changes(new, new), 0);
}

fn settings(data: &[u8]) {
    config::fuzz::settings(&String::from_utf8_lossy(data));
}

/// A file as it is, and with the checksum that a fuzzer cannot guess.
fn spool(data: &[u8]) {
    outbox::spool::is_sound(data);
    let _ = outbox::spool::is_sound(&outbox::spool::with_checksum(data));
}

/// What reads is written and read again as the same.
fn note(data: &[u8]) {
    let Ok(note) = deferred::parse(data) else { return };
    let written = serde_json::to_vec(&note).unwrap_or_default();
    assert_eq!(deferred::parse(&written), Ok(note));
}

/// A commit's message: redacted, and what it declares.
fn message(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let redacted = redact::redact(&text);
    let _ = Declared::read(&redacted, None);
    let _ = redact::people(&redacted);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::path::{Path, PathBuf};

    use super::*;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    }

    /// Flips, drops, doubles and splices: what a fuzzer does, without looking where it leads.
    fn mutated(random: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds[random.usize(..seeds.len())].clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..=data.len());
            let to = (at + random.usize(..40)).min(data.len());
            match random.u8(..5) {
                0 => data[at..to].iter_mut().for_each(|byte| *byte ^= 1 << random.u8(..8)),
                1 => drop(data.drain(at..to)),
                2 => {
                    let piece = data[at..to].to_vec();
                    data.splice(at..at, piece);
                }
                3 => {
                    let other = &seeds[random.usize(..seeds.len())];
                    let from = random.usize(..=other.len());
                    let piece = other[from..(from + 200).min(other.len())].to_vec();
                    data.splice(at..to, piece);
                }
                _ => data.insert(at, *random.choice(b"\"'[]{}=\n\0\xff#: \t0-").unwrap()),
            }
        }
        data
    }

    /// Seeds, what was ever found, and a few thousand mutations of both, the same ones each time.
    #[test]
    fn seeds_finds_and_their_mutations_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, run) in TARGETS {
            let mut seeds = Vec::new();
            for path in
                files(&root.join("seeds").join(name)).iter().chain(&files(&root.join("found").join(name)))
            {
                seeds.push(std::fs::read(path).unwrap());
                run(seeds.last().unwrap());
            }
            assert!(!seeds.is_empty(), "{name} has no seeds");
            let mut random = fastrand::Rng::with_seed(1);
            let start = std::time::Instant::now();
            for _ in 0..3000 {
                let data = mutated(&mut random, &seeds);
                // The fuzzer's inputs are as long.
                run(&data[..data.len().min(4096)]);
                if start.elapsed() > std::time::Duration::from_secs(3) {
                    break;
                }
            }
        }
    }
}
