//! Embeds the packs of `rules/`: read by the library's own strict loader, so that a broken pack breaks the
//! build; written as an index, rules without texts and examples, and the sources for `rules list`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, error::Error, fs};

#[path = "src/hex.rs"]
mod hex;

#[allow(dead_code, unreachable_pub, reason = "the library uses the rest of these files")]
mod rules {
    #[path = "../src/rules/index.rs"]
    pub mod index;
    #[path = "../src/rules/pack.rs"]
    pub mod pack;
    #[path = "../src/rules/rule.rs"]
    pub mod rule;
    #[path = "../src/rules/strict.rs"]
    pub mod strict;
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=rules");
    println!("cargo:rerun-if-changed=src/rules");
    println!("cargo:rerun-if-changed=src/hex.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    link(&out)?;
    if let Err(error) = embed(Path::new("rules"), &out) {
        println!("cargo:error={error}");
    }
    Ok(())
}

/// The Azure SDK brings 45 000 addresses that a loader would have to write, and 200 pages that it would have
/// to copy, at every start of a hook: a third of what the hook costs. Linked to a fixed address there are
/// none (see docs/decisions.md for what that gives up).
///
/// The standard library asks for `libgcc_s`, which a loader would have to find, map and relocate. Found first, a
/// linker script of that name gives its archives instead, where the compiler has them.
fn link(out: &Path) -> Result<(), Box<dyn Error>> {
    let gnu_linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
        && env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    if gnu_linux {
        println!("cargo:rustc-link-arg-bins=-no-pie");
        let asked = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
        let found =
            asked.is_ok_and(|answer| Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_absolute());
        if found {
            let folder = out.join("link");
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
            println!("cargo:rustc-link-search=native={}", folder.display());
        }
    }
    Ok(())
}

fn embed(folder: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut sources = Vec::new();
    let mut known = Vec::new();
    let mut rules = Vec::new();
    for pack in rules::pack::pack_folders(folder)? {
        let files = rules::pack::pack_files(&pack)?;
        let pack = rules::pack::parse_pack(&files, &known, &|_| Ok(()))?;
        known.push(pack.known());
        rules.extend(pack.rules);
        sources.push(files);
    }
    let index = rules::index::Index::build(rules.iter());
    let bodies = rules
        .into_iter()
        .map(|rule| serde_json::to_string(&rule.without_texts()))
        .collect::<Result<Vec<_>, _>>()?;
    fs::write(out.join("rules.index"), index.write())?;
    fs::write(out.join("rules.bodies"), bodies.join("\n"))?;
    fs::write(out.join("rules.known"), serde_json::to_string(&known)?)?;
    fs::write(out.join("rules.sources"), serde_json::to_string(&sources)?)?;
    Ok(())
}
