//! The snippets of `docs/ecosystem.md` and `.pre-commit-hooks.yaml`, as they stand there: with the real tools
//! where PATH has them, and without, the commands themselves.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::print_stdout, reason = "what was not run is for whoever looks with --nocapture")]

mod world;

use std::path::{Path, PathBuf};
use std::process::Command;

use world::{World, agent, wait_for};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The code block of this language under this heading.
fn snippet(heading: &str, language: &str) -> String {
    let text = std::fs::read_to_string(root().join("docs/ecosystem.md")).unwrap();
    let section = text.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    let block = section.split(&format!("```{language}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        println!("{program} is not on PATH: its snippet was not run by it");
    }
    found
}

/// A world with the agent on PATH, and a bare repository to push to.
fn world_with_agent_on_path() -> World {
    let mut world = World::new();
    let bin = world.root().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(agent(), bin.join("gitops-agent")).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).unwrap();
    world.set("PATH", path.to_str().unwrap());
    let server = world.root().join("server.git");
    world.git(&["init", "-q", "--bare", server.to_str().unwrap()]);
    world.git(&["remote", "add", "origin", server.to_str().unwrap()]);
    world
}

/// Runs a tool as Git is run: with the same environment.
fn run(world: &World, words: &[&str]) {
    let git = world.git_command(&[]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(world.repo()).env_clear();
    for (name, value) in git.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let output = command.env("CI", "1").output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Commits, amends, merges; then a commit with hooks off and a push that brings it up.
fn every_way_is_recorded(world: &World, rewrites: bool) {
    world.commit("a.txt", "one\n", "One");
    let old = world.git(&["rev-parse", "HEAD"]);
    world.git(&["commit", "-q", "--amend", "-m", "Two"]);
    let new = world.git(&["rev-parse", "HEAD"]);
    world.git(&["checkout", "-q", "-b", "side", "HEAD"]);
    world.commit("b.txt", "two\n", "Side");
    world.git(&["checkout", "-q", "main"]);
    world.git(&["merge", "-q", "--no-ff", "-m", "Merge", "side"]);
    world.git(&["-c", "core.hooksPath=/dev/null", "commit", "-q", "--allow-empty", "-m", "Unseen"]);
    world.git(&["push", "-q", "origin", "main"]);
    let count = world.git(&["rev-list", "--count", "HEAD"]).parse::<usize>().unwrap();
    // The amended one was recorded too, and files of the tool came in before its hooks.
    let ids = world.git(&["rev-list", "HEAD"]);
    let records = wait_for(30, "all records", || {
        let records = world.records();
        let known = |id: &str| records.iter().any(|record| record["id"] == id);
        (ids.lines().filter(|id| known(id)).count() == count).then_some(records)
    });
    let amended = records.iter().find(|record| record["id"] == *new).unwrap();
    assert_eq!(amended["supersedes"].as_array().is_some_and(|all| all.contains(&old.into())), rewrites);
    let merge =
        records.iter().find(|record| record["message"].as_str().unwrap().starts_with("Merge")).unwrap();
    assert_eq!(merge["source"], "post-merge");
}

#[test]
fn lefthook_runs_its_snippet() {
    if on_path("lefthook").is_none() {
        return;
    }
    let world = world_with_agent_on_path();
    std::fs::write(world.repo().join("lefthook.yml"), snippet("lefthook", "yaml")).unwrap();
    run(&world, &["lefthook", "install"]);
    every_way_is_recorded(&world, true);
}

#[test]
fn husky_runs_its_snippet() {
    let world = world_with_agent_on_path();
    if on_path("husky").is_some() {
        run(&world, &["husky"]);
    } else {
        // What `husky` makes, from its version 9.1.7.
        let hooks = root().join("tests/install_support/hooks");
        let folder = world.repo().join(".husky/_");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(hooks.join("husky-9.1-h"), folder.join("h")).unwrap();
        for hook in gitops_agent::install::HOOKS {
            let at = folder.join(hook);
            std::fs::copy(hooks.join("husky-9.1"), &at).unwrap();
            let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
            std::fs::set_permissions(at, mode).unwrap();
        }
        world.git(&["config", "core.hooksPath", ".husky/_"]);
    }
    run(&world, &["sh", "-c", &snippet("Husky", "sh")]);
    every_way_is_recorded(&world, true);
}

/// A repository with what pre-commit clones, and the configuration that names it.
fn hook_repository(world: &World) -> String {
    let source = world.root().join("agent-repository");
    std::fs::create_dir_all(source.join("hooks")).unwrap();
    for file in [".pre-commit-hooks.yaml", "hooks/for-pre-commit"] {
        std::fs::copy(root().join(file), source.join(file)).unwrap();
    }
    let at = source.to_str().unwrap();
    world.git(&["init", "-q", at]);
    world.git(&["-C", at, "add", "-A"]);
    world.git(&["-C", at, "commit", "-q", "-m", "Hooks"]);
    let revision = world.git(&["-C", at, "rev-parse", "HEAD"]);
    snippet("pre-commit", "yaml").replace("URL-OF-THIS-REPOSITORY", at).replace("REVISION", &revision)
}

fn manager(program: &str) {
    if on_path(program).is_none() {
        return;
    }
    let world = world_with_agent_on_path();
    let config = hook_repository(&world);
    std::fs::write(world.repo().join(".pre-commit-config.yaml"), config).unwrap();
    run(&world, &[program, "install", "-t", "post-commit", "-t", "post-merge", "-t", "pre-push"]);
    every_way_is_recorded(&world, false);
}

#[test]
fn pre_commit_runs_its_hook() {
    manager("pre-commit");
}

#[test]
fn prek_runs_its_hook() {
    manager("prek");
}

#[test]
fn the_script_for_pre_commit_tells_stages_apart_and_never_fails() {
    let mut world = world_with_agent_on_path();
    let script = root().join("hooks/for-pre-commit");
    world.commit("a.txt", "one\n", "One");
    let head = world.commit("a.txt", "two\n", "Two");
    world.set("PRE_COMMIT_REMOTE_NAME", "origin");
    world.set("PRE_COMMIT_TO_REF", &head);
    run(&world, &[script.to_str().unwrap()]);
    let records = wait_for(30, "both commits", || Some(world.records()).filter(|records| records.len() == 2));
    assert!(records.iter().all(|record| record["source"] == "pre-push"));
    world.set("PATH", "/usr/bin:/bin");
    run(&world, &[script.to_str().unwrap()]);
}

#[test]
fn the_snippet_for_ci_records_and_verifies_a_range() {
    let mut world = world_with_agent_on_path();
    let before = world.commit("a.txt", "one\n", "One");
    world.commit("a.txt", "two\n", "Two");
    let after = world.commit("a.txt", "three\n", "Three");
    let home = world.root().join("runner/gitops-agent");
    std::fs::create_dir(world.root().join("runner")).unwrap();
    world.set("RUNNER_TEMP", home.parent().unwrap().to_str().unwrap());
    world.set("BEFORE", &before);
    world.set("AFTER", &after);
    run(&world, &["sh", "-c", &snippet("CI", "sh")]);
    world.set("GITOPS_AGENT_HOME", home.to_str().unwrap());
    assert_eq!(world.records().len(), 2);
    world.set("BEFORE", "");
    run(&world, &["sh", "-c", &snippet("CI", "sh")]);
    assert_eq!(world.records().len(), 3);
}
