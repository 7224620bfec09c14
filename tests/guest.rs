//! The real agent as a guest: installed twice over, beside a hook that commits, called by a GUI, and gone.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use world::{World, wait_for};

/// The folders of PATH that hold another version of Git than those before them.
fn folders_of_git() -> Vec<PathBuf> {
    let mut seen = Vec::new();
    let path = std::env::var_os("PATH").unwrap();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.retain(|folder| {
        let version = std::process::Command::new(folder.join("git")).arg("--version").output();
        version.is_ok_and(|version| {
            let new = !seen.contains(&version.stdout);
            seen.push(version.stdout);
            new
        })
    });
    folders
}

/// A world in which this Git comes first, with a user's configuration of its own.
fn world_with(git: &Path) -> World {
    let mut world = World::new();
    let path = std::env::var_os("PATH").unwrap();
    let path =
        std::env::join_paths(std::iter::once(git.to_owned()).chain(std::env::split_paths(&path))).unwrap();
    world.set("PATH", path.to_str().unwrap());
    world.set("GIT_CONFIG_GLOBAL", world.root().join("gitconfig").to_str().unwrap());
    world
}

fn hook(world: &World, name: &str, text: &str) {
    let path = world.repo().join(".git/hooks").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn installed_here_and_for_all_beside_a_foreign_hook_gives_one_record_and_runs_that_once() {
    for git in folders_of_git() {
        for global_first in [false, true] {
            let world = world_with(&git);
            let log = world.root().join("log");
            hook(&world, "post-commit", &format!("#!/bin/sh\necho ran >>'{}'\n", log.display()));
            let ways: [&[&str]; 2] = [&["install"], &["install", "--global"]];
            let order = if global_first { [ways[1], ways[0]] } else { ways };
            for words in order {
                world.ok(words);
            }
            let id = world.commit("a.txt", "one\n", "One");
            world.delivered(&id);
            world.ok(&["flush"]);
            assert_eq!(world.records().len(), 1, "{}", git.display());
            assert_eq!(std::fs::read_to_string(&log).unwrap(), "ran\n", "{}", git.display());
            for words in order {
                world.ok(&[&["uninstall"], &words[1..]].concat());
            }
            world.commit("a.txt", "two\n", "Two");
            assert_eq!(std::fs::read_to_string(&log).unwrap(), "ran\nran\n", "{}", git.display());
            assert_eq!(world.records().len(), 1);
            assert!(!world.root().join("gitconfig").exists(), "{}", git.display());
        }
    }
}

#[test]
fn a_hook_that_commits_ends_and_both_commits_are_recorded() {
    let world = World::new();
    hook(
        &world,
        "post-commit",
        "#!/bin/sh\n[ -n \"$INNER\" ] && exit\nINNER=1 git commit -q --allow-empty -m inner\n",
    );
    world.ok(&["install"]);
    world.commit("a.txt", "one\n", "outer");
    assert_eq!(world.git(&["rev-list", "--count", "HEAD"]), "2");
    wait_for(30, "both", || (world.records().len() == 2).then_some(()));
}

#[test]
fn a_gui_without_a_path_records_as_well() {
    let world = World::new();
    world.ok(&["install"]);
    let git = folders_of_git()[0].join("git");
    let status = std::process::Command::new(git)
        .args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.org",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "GUI",
        ])
        .current_dir(world.repo())
        .env_clear()
        .env("HOME", world.root())
        .env("GITOPS_AGENT_HOME", world.home())
        .env("PATH", "/usr/bin:/bin")
        .status()
        .unwrap();
    assert!(status.success());
    wait_for(30, "the record", || (world.records().len() == 1).then_some(()));
}
