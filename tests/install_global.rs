//! Covering all repositories of a user, with real Git: a folder that hands every hook on, and hooks
//! named in the configuration, which Git 2.54 and later runs (really, where PATH has one).
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod install_support;

use std::fs;
use std::path::Path;

use gitops_agent::install::{
    Git, HookState, Plan, Step, Target, apply, hook_report, plan_install, plan_uninstall,
};
use install_support::{KINDS, World, gits, snapshot};

fn install(world: &World, work: &Path) -> Plan {
    let git = world.asked_in(work);
    let plan = plan_install(&git, &Target::Repository, &world.agent()).unwrap();
    apply(&plan, &git).unwrap();
    plan
}

fn global(world: &World) -> Target {
    Target::Global { folder: world.home().join("data/gitops-agent/hooks") }
}

fn install_global(world: &World, git: &Git) -> Plan {
    let plan = plan_install(git, &global(world), &world.agent()).unwrap();
    apply(&plan, git).unwrap();
    plan
}

fn uninstall_global(world: &World, git: &Git) {
    apply(&plan_uninstall(git, &global(world)).unwrap(), git).unwrap();
}

fn state(world: &World, work: &Path) -> HookState {
    hook_report(&world.asked_in(work)).unwrap().state
}

fn any_world() -> World {
    World::new(&gits()[0])
}

/// `git` that says it is of 2.54 and is the real one for everything else.
fn git_of_2_54(world: &World, work: &Path) -> Git {
    let mut git = world.asked_in(work);
    let wrapper = world.path("bin/git-2.54");
    world.script(
        &wrapper,
        &format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && echo 'git version 2.54.0' && exit\nexec '{}' \"$@\"\n",
            git.program.display()
        ),
    );
    git.program = wrapper;
    git
}

#[test]
fn global_hooks_hand_every_call_on() {
    for program in gits() {
        for kind in KINDS {
            let world = World::new(&program);
            let work = world.repository("r");
            kind.put(&world, &work.join(".git/hooks"));
            let git = world.asked_in(&work);
            let before = snapshot(world.root());
            let alone = world.round(&work);
            install_global(&world, &git);
            assert_eq!(
                plan_install(&git, &global(&world), &world.agent()).unwrap().steps,
                [],
                "{}",
                kind.name
            );
            assert_eq!(state(&world, &work), HookState::Active);
            assert_eq!(
                plan_install(&git, &Target::Repository, &world.agent()).unwrap().steps,
                [],
                "covered already"
            );
            let with = world.round(&work);
            assert_eq!(kind.fires, !with.foreign.is_empty(), "{} with {}", kind.name, world.version());
            assert_eq!(with.foreign, alone.foreign, "{} with {}", kind.name, world.version());
            assert_eq!(with.codes, alone.codes, "{}", kind.name);
            assert_eq!(with.agent, world.expected_agent_calls(&work), "{}", kind.name);
            uninstall_global(&world, &git);
            // From Git 2.54 on there is no folder of ours.
            if fs::remove_dir(world.home().join("data/gitops-agent")).is_ok() {
                fs::remove_dir(world.home().join("data")).unwrap();
            }
            assert_eq!(snapshot(world.root()), before, "{}", kind.name);
        }
    }
}

#[test]
fn global_hooks_reach_worktrees_submodule_folders_and_the_server_side() {
    let world = any_world();
    let work = world.repository("main");
    let linked = world.path("linked");
    world.git(&work, &["worktree", "add", "-q", linked.to_str().unwrap()]);
    let log = world.path("logs/own");
    let own = format!("#!/bin/sh\necho \"${{0##*/}} $*\" >>'{}'\n", log.display());
    for hook in ["pre-commit", "post-commit", "commit-msg"] {
        world.script(&work.join(".git/hooks").join(hook), &own);
    }
    let server = world.path("server.git");
    world.git(world.root(), &["init", "-q", "--bare", server.to_str().unwrap()]);
    world.script(&server.join("hooks/update"), "#!/bin/sh\necho refused >&2\nexit 1\n");
    install_global(&world, &world.asked_in(&work));
    world.git(&linked, &["commit", "-q", "--allow-empty", "-m", "in the worktree"]);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("pre-commit \ncommit-msg ") && text.ends_with("post-commit \n"), "{text}");
    let push = world.command(&work, &["push", "-q", "../server.git", "HEAD:refs/heads/x"]).output().unwrap();
    assert!(String::from_utf8_lossy(&push.stderr).contains("refused"), "the server's own hook decides");
    assert!(!push.status.success());
}

#[test]
fn global_hooks_leave_a_push_to_a_checked_out_branch_as_it_is() {
    let world = any_world();
    let deployed = world.repository("deployed");
    world.git(&deployed, &["config", "receive.denyCurrentBranch", "updateInstead"]);
    let clone = world.path("clone");
    world.git(world.root(), &["clone", "-q", deployed.to_str().unwrap(), clone.to_str().unwrap()]);
    install_global(&world, &world.asked_in(&clone));
    fs::write(clone.join("file"), "content\n").unwrap();
    world.git(&clone, &["add", "file"]);
    world.git(&clone, &["commit", "-q", "-m", "deploy"]);
    world.git(&clone, &["push", "-q", "origin", "HEAD:main"]);
    assert_eq!(fs::read_to_string(deployed.join("file")).unwrap(), "content\n");
    fs::write(deployed.join("file"), "edited there\n").unwrap();
    world.git(&clone, &["commit", "-q", "--allow-empty", "-m", "again"]);
    assert!(
        !world.command(&clone, &["push", "-q", "origin", "HEAD:main"]).output().unwrap().status.success()
    );
    assert_eq!(fs::read_to_string(deployed.join("file")).unwrap(), "edited there\n");
}

#[test]
fn a_repository_of_husky_is_shadowed_until_it_is_installed_there_too() {
    let world = any_world();
    let work = world.repository("r");
    world.git(&work, &["config", "core.hooksPath", ".husky/_"]);
    fs::create_dir_all(work.join(".husky/_")).unwrap();
    install_global(&world, &world.asked_in(&work));
    assert_eq!(state(&world, &work), HookState::Shadowed);
    install(&world, &work);
    assert_eq!(state(&world, &work), HookState::Active);
}

#[test]
fn git_2_54_gets_sections_of_the_configuration() {
    let world = any_world();
    let work = world.repository("r");
    let git = git_of_2_54(&world, &work);
    world.script(&work.join(".git/hooks/post-commit"), "#!/bin/sh\n");
    let before = snapshot(world.root());
    for target in [Target::Repository, global(&world)] {
        let plan = plan_install(&git, &target, &world.agent()).unwrap();
        let keys: Vec<_> = plan
            .steps
            .iter()
            .map(|step| match step {
                Step::SetConfig { key, .. } => key.rsplit('.').next().unwrap(),
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(keys, ["command", "event"].repeat(5), "never an event without its command");
        apply(&plan, &git).unwrap();
        assert_eq!(plan_install(&git, &target, &world.agent()).unwrap().steps, []);
        assert_eq!(hook_report(&git).unwrap().state, HookState::Active);
        assert_eq!(state(&world, &work), HookState::Missing, "an older Git ignores the keys");
        apply(&plan_uninstall(&git, &target).unwrap(), &git).unwrap();
        assert_eq!(snapshot(world.root()), before);
    }
}

#[test]
fn the_configured_command_is_called_as_git_calls_it_and_cannot_fail() {
    let world = any_world();
    let work = world.repository("r");
    let git = git_of_2_54(&world, &work);
    let odd = world.path("it's \"odd\" $HOME/gitops-agent");
    world.script(&odd, &fs::read_to_string(world.agent()).unwrap());
    apply(&plan_install(&git, &global(&world), &odd).unwrap(), &git).unwrap();
    // Git 2.54 runs `sh -c '<command> "$@"' <command> <arguments>` (run-command.c, prepare_shell_cmd).
    let command = world.git(&work, &["config", "hook.gitops-agent-pre-push.command"]);
    let run = |input: &[u8]| {
        use std::io::Write as _;
        let mut child = std::process::Command::new("sh")
            .args([
                "-c",
                &format!("{} \"$@\"", command.trim_end()),
                command.trim_end(),
                "origin",
                "an address",
            ])
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    };
    assert!(run(b"a line\n").status.success());
    assert_eq!(
        fs::read_to_string(world.path("logs/agent")).unwrap(),
        "agent pre-push origin an address\na line\n"
    );
    fs::remove_file(&odd).unwrap();
    let gone = run(b"");
    assert!(gone.status.success() && gone.stderr.is_empty());
}

#[test]
fn a_users_own_global_hooks_path_comes_back_as_it_was() {
    let world = any_world();
    let work = world.repository("r");
    fs::create_dir(work.join("relative")).unwrap();
    world.script(&work.join("relative/post-commit"), "#!/bin/sh\necho here >>ran\n");
    world.git(&work, &["config", "--global", "core.hooksPath", "relative"]);
    let git = world.asked_in(&work);
    let before = fs::read(world.home().join(".gitconfig")).unwrap();
    install_global(&world, &git);
    world.git(&work, &["commit", "-q", "--allow-empty", "-m", "x"]);
    assert_eq!(fs::read_to_string(work.join("ran")).unwrap(), "here\n");
    assert_eq!(fs::read_to_string(world.path("logs/agent")).unwrap(), "agent post-commit\n");
    assert_eq!(plan_install(&git, &global(&world), &world.agent()).unwrap().steps, []);
    uninstall_global(&world, &git);
    assert_eq!(fs::read(world.home().join(".gitconfig")).unwrap(), before);
}

#[test]
fn installed_here_and_for_all_the_agent_runs_once() {
    let world = any_world();
    let work = world.repository("r");
    install(&world, &work);
    install_global(&world, &world.asked_in(&work));
    world.git(&work, &["commit", "-q", "--allow-empty", "-m", "x"]);
    assert_eq!(fs::read_to_string(world.path("logs/agent")).unwrap(), "agent post-commit\n");
}

#[test]
fn a_configuration_file_that_was_not_there_is_gone_again() {
    let world = any_world();
    let work = world.repository("r");
    fs::remove_file(world.home().join(".gitconfig")).unwrap();
    for git in [world.asked_in(&work), git_of_2_54(&world, &work)] {
        install_global(&world, &git);
        assert!(world.home().join(".gitconfig").exists());
        uninstall_global(&world, &git);
        assert!(!world.home().join(".gitconfig").exists());
    }
}

#[test]
fn configured_hooks_that_are_off_or_whose_program_is_gone_are_not_in_force() {
    let world = any_world();
    let work = world.repository("r");
    let git = git_of_2_54(&world, &work);
    install_global(&world, &git);
    let report = hook_report(&git).unwrap();
    assert_eq!((report.state, report.configured.len()), (HookState::Active, 5));
    assert_eq!(report.programs, [world.agent()]);
    for key in ["hook.post-merge.enabled", "hook.gitops-agent-post-merge.enabled"] {
        world.git(&work, &["config", key, "false"]);
        let report = hook_report(&git).unwrap();
        assert_eq!((report.state, &report.missing[..]), (HookState::Missing, &["post-merge"][..]), "{key}");
        assert!(report.reason.unwrap().contains(&format!("git config --unset {key}")));
        world.git(&work, &["config", "--unset", key]);
    }
    fs::remove_file(world.agent()).unwrap();
    let report = hook_report(&git).unwrap();
    assert_eq!((report.state, report.missing.len()), (HookState::Missing, 5));
    assert!(report.reason.unwrap().contains("bin/gitops-agent, which is not there"));
}

#[test]
fn a_bare_repository_gets_post_receive_although_all_are_covered() {
    let world = any_world();
    let work = world.repository("r");
    let server = world.path("server.git");
    world.git(&work, &["clone", "-q", "--bare", ".", server.to_str().unwrap()]);
    let before = snapshot(&server);
    for git in [world.asked_in(&server), git_of_2_54(&world, &server)] {
        install_global(&world, &git);
        let report = hook_report(&git).unwrap();
        assert_eq!((report.state, &report.missing[..]), (HookState::Missing, &["post-receive"][..]));
        let install = || plan_install(&git, &Target::Repository, &world.agent()).unwrap();
        apply(&install(), &git).unwrap();
        assert_eq!(install().steps, []);
        assert_eq!(hook_report(&git).unwrap().state, HookState::Active);
        apply(&plan_uninstall(&git, &Target::Repository).unwrap(), &git).unwrap();
        assert_eq!(snapshot(&server), before);
        uninstall_global(&world, &git);
    }
}
