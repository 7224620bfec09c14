//! The installer with real Git: what was there keeps working, and comes back byte for byte.
//!
//! Each case of the matrix takes one kind of existing hook to one place, and compares two rounds of
//! real Git commands, before the installation and with it, and the whole folder before and after. The
//! agent is a stand-in that writes down how it was called.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::print_stdout, reason = "the table is for whoever runs it with --nocapture")]

mod install_support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use gitops_agent::install::{HookState, Target, apply, hook_report, plan_install, plan_uninstall};
use install_support::{KINDS, Kind, World, gits, snapshot};

/// A place for hooks: how to make it, and what is installed from where.
struct Place {
    /// The folder from which Git and the installer run.
    work: PathBuf,
    /// Where foreign hooks are put.
    hooks: PathBuf,
}

fn plain(world: &World) -> Place {
    let work = world.repository("plain");
    Place { hooks: work.join(".git/hooks"), work }
}

fn worktree(world: &World) -> Place {
    let main = world.repository("main");
    let work = world.path("linked tree");
    world.git(&main, &["worktree", "add", "-q", "-b", "side", work.to_str().unwrap()]);
    Place { hooks: main.join(".git/hooks"), work }
}

fn submodule(world: &World) -> Place {
    let library = world.repository("library");
    let outer = world.repository("outer");
    world.git(
        &outer,
        &[
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            library.to_str().unwrap(),
            "lib",
        ],
    );
    let hooks = outer.join(".git/modules/lib/hooks");
    assert!(hooks.is_dir());
    Place { work: outer.join("lib"), hooks }
}

fn bare(world: &World) -> Place {
    let source = world.repository("source");
    let work = world.path("bare.git");
    world.git(&source, &["clone", "-q", "--bare", ".", work.to_str().unwrap()]);
    Place { hooks: work.join("hooks"), work }
}

fn relative_path(world: &World) -> Place {
    let work = world.repository("relative");
    world.git(&work, &["config", "core.hooksPath", "tools/hooks"]);
    fs::create_dir_all(work.join("tools/hooks")).unwrap();
    Place { hooks: work.join("tools/hooks"), work }
}

fn absolute_path(world: &World) -> Place {
    let work = world.repository("absolute");
    let hooks = world.path("shared hooks");
    fs::create_dir(&hooks).unwrap();
    world.git(&work, &["config", "core.hooksPath", hooks.to_str().unwrap()]);
    Place { hooks, work }
}

fn global_path(world: &World) -> Place {
    let work = world.repository("of-global");
    fs::create_dir_all(world.home().join("githooks")).unwrap();
    world.git(&work, &["config", "--global", "core.hooksPath", "~/githooks"]);
    Place { hooks: world.home().join("githooks"), work }
}

fn linked_folder(world: &World) -> Place {
    let work = world.repository("linked-folder");
    fs::remove_dir_all(work.join(".git/hooks")).unwrap();
    fs::create_dir(work.join("githooks")).unwrap();
    symlink("../githooks", work.join(".git/hooks")).unwrap();
    Place { hooks: work.join("githooks"), work }
}

/// One case, and its line of the table (`cargo test --test install -- --nocapture`): two rounds that must look the same to the foreign hook, and to `git status`.
fn check(world: &World, place: &Place, kind: &Kind) -> String {
    let title = format!("{} at {}, {}", kind.name, place.hooks.display(), world.version());
    kind.put(world, &place.hooks);
    let before = snapshot(world.root());
    let round_before = world.round(&place.work);
    assert!(round_before.agent.is_empty(), "{title}");
    if kind.fires {
        assert!(!round_before.foreign.is_empty(), "{title}: the test's own hook must fire");
    }

    let git = world.asked_in(&place.work);
    let plan = plan_install(&git, &Target::Repository, &world.agent()).unwrap();
    assert!(!plan.steps.is_empty(), "{title}");
    apply(&plan, &git).unwrap();
    let again = plan_install(&git, &Target::Repository, &world.agent()).unwrap();
    assert_eq!(again.steps, [], "{title}: twice is once");
    let report = hook_report(&git).unwrap();
    assert_eq!(report.state, HookState::Active, "{title}: {report:?}");

    let round_with = world.round(&place.work);
    assert_eq!(round_with.foreign, round_before.foreign, "{title}: the foreign hook must not notice");
    assert_eq!(round_with.codes, round_before.codes, "{title}: exit codes of Git's commands");
    assert_eq!(round_with.agent, world.expected_agent_calls(&place.work), "{title}");

    let plan = plan_uninstall(&git, &Target::Repository).unwrap();
    apply(&plan, &git).unwrap();
    assert_eq!(snapshot(world.root()), before, "{title}: every byte, mode and link");
    assert_eq!(plan_uninstall(&git, &Target::Repository).unwrap().steps, [], "{title}");
    assert_eq!(hook_report(&git).unwrap().state, HookState::Missing, "{title}");
    let configured = report.configured.len();
    format!(
        "{:<20} | {:<37} | {:<18} | {:>2} before, {:>2} with the agent | {} | every byte back",
        place.hooks.strip_prefix(world.root()).unwrap_or(&place.hooks).display(),
        kind.name,
        world.version().trim().trim_start_matches("git version "),
        round_before.foreign.lines().count(),
        round_with.foreign.lines().count(),
        if configured > 0 { "configuration" } else { "hook files   " },
    )
}

fn matrix(place: fn(&World) -> Place) {
    matrix_but(place, "");
}

/// The versions of Git take turns: each case costs half a second.
fn matrix_but(place: fn(&World) -> Place, left_out: &str) {
    let programs = gits();
    for (kind, program) in KINDS.iter().zip(programs.iter().cycle()) {
        if kind.name != left_out {
            run(place, kind, program);
        }
    }
}

fn run(place: fn(&World) -> Place, kind: &Kind, program: &Path) {
    let world = World::new(program);
    let place = place(&world);
    println!("{}", check(&world, &place, kind));
}

#[test]
fn existing_hooks_in_a_plain_repository() {
    for program in gits() {
        for kind in KINDS {
            run(plain, kind, &program);
        }
    }
}

#[test]
fn existing_hooks_in_a_linked_worktree() {
    matrix(worktree);
}

#[test]
fn existing_hooks_in_a_submodule() {
    matrix(submodule);
}

#[test]
fn existing_hooks_in_a_bare_repository() {
    matrix(bare);
}

#[test]
fn existing_hooks_in_a_relative_hooks_path() {
    matrix(relative_path);
}

#[test]
fn existing_hooks_in_an_absolute_hooks_path() {
    matrix(absolute_path);
}

#[test]
fn existing_hooks_in_a_global_hooks_path() {
    matrix(global_path);
}

#[test]
fn existing_hooks_where_the_folder_is_a_link_into_the_worktree() {
    // Husky's helper counts folders in its own path, and never worked behind a link.
    matrix_but(linked_folder, "Husky");
}
