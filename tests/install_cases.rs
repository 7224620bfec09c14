//! The installer's edges with real Git: upgrades, what people and other tools change after an
//! installation, what goes wrong half-way, and what the hooks do where the agent is gone.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod install_support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use gitops_agent::install::{
    HOOKS, HookState, InstallError, Plan, Step, Target, apply, hook_report, plan_install, plan_uninstall,
};
use install_support::{KINDS, World, gits, snapshot};

fn install(world: &World, work: &Path) -> Plan {
    let git = world.asked_in(work);
    let plan = plan_install(&git, &Target::Repository, &world.agent()).unwrap();
    apply(&plan, &git).unwrap();
    plan
}

fn uninstall(world: &World, work: &Path) -> Plan {
    let git = world.asked_in(work);
    let plan = plan_uninstall(&git, &Target::Repository).unwrap();
    apply(&plan, &git).unwrap();
    plan
}

fn state(world: &World, work: &Path) -> HookState {
    hook_report(&world.asked_in(work)).unwrap().state
}

fn any_world() -> World {
    World::new(&gits()[0])
}

#[test]
fn a_lone_hook_is_a_link_and_pre_push_never_is() {
    let world = any_world();
    let work = world.repository("r");
    install(&world, &work);
    for hook in HOOKS {
        let path = work.join(".git/hooks").join(hook);
        assert_eq!(path.symlink_metadata().unwrap().is_symlink(), hook != "pre-push", "{hook}");
    }
}

#[test]
fn husky_set_up_after_us_shadows_us_and_uninstall_still_cleans_up() {
    let world = any_world();
    let work = world.repository("r");
    let before = snapshot(&work.join(".git/hooks"));
    install(&world, &work);
    world.git(&work, &["config", "core.hooksPath", ".husky/_"]);
    let report = hook_report(&world.asked_in(&work)).unwrap();
    assert_eq!(report.state, HookState::Shadowed);
    assert!(report.reason.unwrap().contains("gitops-agent install"));
    uninstall(&world, &work);
    assert_eq!(snapshot(&work.join(".git/hooks")), before);
    assert_eq!(state(&world, &work), HookState::Missing);
}

#[test]
fn husky_writing_its_files_anew_costs_nothing_but_another_install() {
    let world = any_world();
    let work = world.repository("r");
    world.git(&work, &["config", "core.hooksPath", ".husky/_"]);
    let folder = work.join(".husky/_");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(".gitignore"), "*").unwrap();
    let husky = KINDS.iter().find(|kind| kind.name == "Husky").unwrap();
    husky.put(&world, &folder);
    let alone = world.round(&work);
    let plan = install(&world, &work);
    assert!(plan.notes.iter().any(|note| note.contains("npm install")), "{:?}", plan.notes);
    let status = world.git(&work, &["status", "--porcelain"]);
    assert!(!status.contains("before-gitops-agent") && !status.contains("_/"), "{status}");
    let agent = fs::read(world.agent()).unwrap();
    husky.put(&world, &folder);
    assert_eq!(fs::read(world.agent()).unwrap(), agent, "Husky must not write through a link of ours");
    assert_eq!(state(&world, &work), HookState::Missing);
    install(&world, &work);
    let with = world.round(&work);
    assert_eq!(with.foreign, alone.foreign);
    assert_eq!(with.agent, world.expected_agent_calls(&work));
    uninstall(&world, &work);
    assert_eq!(world.round(&work).foreign, alone.foreign);
}

#[test]
fn a_relative_path_is_installed_in_every_worktree() {
    let world = any_world();
    let work = world.repository("r");
    world.git(&work, &["config", "core.hooksPath", "hooks"]);
    let linked = world.path("linked");
    world.git(&work, &["worktree", "add", "-q", linked.to_str().unwrap()]);
    let before = snapshot(world.root());
    install(&world, &linked);
    assert_eq!(state(&world, &work), HookState::Active);
    assert_eq!(state(&world, &linked), HookState::Active);
    assert_eq!(world.round(&work).agent, world.expected_agent_calls(&work));
    uninstall(&world, &work);
    assert_eq!(snapshot(world.root()), before, "the folders that were made are gone too");
}

#[test]
fn tracked_hooks_are_named_in_a_note() {
    let world = any_world();
    let work = world.repository("r");
    world.git(&work, &["config", "core.hooksPath", "hooks"]);
    world.script(&work.join("hooks/post-commit"), "#!/bin/sh\n");
    world.git(&work, &["add", "hooks"]);
    let plan = install(&world, &work);
    assert!(plan.notes.iter().any(|note| note.contains("do not commit")), "{:?}", plan.notes);
}

#[test]
fn an_upgrade_to_another_program_replaces_ours_only() {
    let world = any_world();
    let work = world.repository("r");
    let foreign = "#!/bin/sh\nexit 0\n";
    world.script(&work.join(".git/hooks/post-commit"), foreign);
    let before = snapshot(&work);
    install(&world, &work);
    let newer = world.path("newer bin's/gitops-agent");
    world.script(&newer, &fs::read_to_string(world.agent()).unwrap());
    fs::remove_file(world.agent()).unwrap();
    let report = hook_report(&world.asked_in(&work)).unwrap();
    assert_eq!(report.state, HookState::Missing, "the program is gone");
    assert!(report.reason.unwrap().contains("bin/gitops-agent"));
    let git = world.asked_in(&work);
    apply(&plan_install(&git, &Target::Repository, &newer).unwrap(), &git).unwrap();
    assert_eq!(state(&world, &work), HookState::Active);
    assert_eq!(world.round(&work).agent, world.expected_agent_calls(&work));
    uninstall(&world, &work);
    assert_eq!(snapshot(&work), before);
}

#[test]
fn a_program_that_is_gone_is_silence() {
    for kind in ["none", "shell that fails"] {
        let world = any_world();
        let work = world.repository("r");
        let kind = KINDS.iter().find(|other| other.name == kind).unwrap();
        kind.put(&world, &work.join(".git/hooks"));
        let alone = world.round(&work);
        assert_eq!(kind.fires, !alone.foreign.is_empty(), "{} with {}", kind.name, world.version());
        install(&world, &work);
        fs::remove_file(world.agent()).unwrap();
        let without = world.round(&work);
        assert_eq!((without.foreign, without.codes), (alone.foreign, alone.codes));
        let commit = world.command(&work, &["commit", "-q", "--allow-empty", "-m", "x"]).output().unwrap();
        assert!(commit.status.success() && commit.stderr.is_empty(), "{:?}", commit);
    }
}

#[test]
fn a_script_finds_the_program_on_path_and_works_when_copied_by_hand() {
    let world = any_world();
    let work = world.repository("r");
    for hook in HOOKS {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks").join(hook);
        world.script(&work.join(".git/hooks").join(hook), &fs::read_to_string(source).unwrap());
    }
    let path = std::env::join_paths(
        std::iter::once(world.path("bin")).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut commit = world.command(&work, &["commit", "-q", "--allow-empty", "-m", "x"]);
    assert!(commit.env("PATH", path.unwrap()).status().unwrap().success());
    assert_eq!(fs::read_to_string(world.path("logs/agent")).unwrap(), "agent post-commit\n");
    assert_eq!(state(&world, &work), HookState::Active);
    uninstall(&world, &work);
    assert!(HOOKS.iter().all(|hook| !work.join(".git/hooks").join(hook).exists()));
}

#[test]
fn what_was_changed_after_the_installation_stays() {
    let world = any_world();
    let work = world.repository("r");
    let hooks = work.join(".git/hooks");
    world.script(&hooks.join("post-commit"), "#!/bin/sh\n# theirs\n");
    world.script(&hooks.join("post-merge"), "#!/bin/sh\n# theirs\n");
    install(&world, &work);
    let mut changed = fs::read_to_string(hooks.join("post-commit")).unwrap();
    changed.push_str("echo mine\n");
    fs::write(hooks.join("post-commit"), &changed).unwrap();
    world.script(&hooks.join("post-merge"), "#!/bin/sh\n# another tool\n");
    let plan = uninstall(&world, &work);
    assert_eq!(fs::read_to_string(hooks.join("post-commit")).unwrap(), changed);
    assert_eq!(fs::read_to_string(hooks.join("post-merge")).unwrap(), "#!/bin/sh\n# another tool\n");
    let kept = work.join(".git/hooks.before-gitops-agent");
    assert_eq!(fs::read_to_string(kept.join("post-commit")).unwrap(), "#!/bin/sh\n# theirs\n");
    assert_eq!(fs::read_to_string(kept.join("post-merge")).unwrap(), "#!/bin/sh\n# theirs\n");
    let notes = plan.notes.join("\n");
    assert!(
        notes.contains("hooks/post-commit was changed") && notes.contains("hooks/post-merge was replaced")
    );
    assert!(!hooks.join("pre-push").exists(), "the rest is gone");
}

#[test]
fn a_manager_that_comes_after_us_moves_our_hook_and_it_still_works() {
    // pre-commit and prek rename what they find to NAME.legacy, and call it.
    let world = any_world();
    let work = world.repository("r");
    let hooks = work.join(".git/hooks");
    KINDS.iter().find(|kind| kind.name == "shell that ends in exit 0").unwrap().put(&world, &hooks);
    let alone = world.round(&work);
    install(&world, &work);
    for hook in HOOKS {
        fs::rename(hooks.join(hook), hooks.join(format!("{hook}.legacy"))).unwrap();
        world.script(&hooks.join(hook), "#!/bin/sh\nexec \"$0.legacy\" \"$@\"\n");
    }
    let with = world.round(&work);
    assert_eq!(with.foreign, alone.foreign);
    assert_eq!(with.agent, world.expected_agent_calls(&work));
}

#[test]
fn a_hook_that_commits_does_not_run_for_ever() {
    let world = any_world();
    let work = world.repository("r");
    world.script(
        &work.join(".git/hooks/post-commit"),
        "#!/bin/sh\n[ -n \"$INNER\" ] && exit\nINNER=1 git commit -q --allow-empty -m inner\n",
    );
    install(&world, &work);
    world.git(&work, &["commit", "-q", "--allow-empty", "-m", "outer"]);
    assert_eq!(
        fs::read_to_string(world.path("logs/agent")).unwrap(),
        "agent post-commit\nagent post-commit\n"
    );
    assert_eq!(world.git(&work, &["rev-list", "--count", "HEAD"]).trim(), "3");
}

#[test]
fn a_large_input_reaches_both_hooks_unharmed() {
    let world = any_world();
    let work = world.repository("r");
    KINDS.iter().find(|kind| kind.name == "shell that fails").unwrap().put(&world, &work.join(".git/hooks"));
    install(&world, &work);
    // Above the 64 KiB of a pipe and the 128 KiB of an argument, and without a last newline.
    let input = "0123456789abcdef %s\\n \t\n\n".repeat(20_000) + "end";
    fs::write(world.path("input"), &input).unwrap();
    let status = std::process::Command::new(work.join(".git/hooks/pre-push"))
        .args(["origin", "an address"])
        .stdin(fs::File::open(world.path("input")).unwrap())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
    for (log, call) in [("foreign", "foreign pre-push"), ("agent", "agent pre-push")] {
        let text = fs::read_to_string(world.path("logs").join(log)).unwrap();
        assert!(text == format!("{call} origin an address\n{input}"), "{log}");
    }
}

#[test]
fn a_step_that_fails_takes_back_the_others() {
    let world = any_world();
    let work = world.repository("r");
    let hooks = work.join(".git/hooks");
    for hook in HOOKS {
        world.script(&hooks.join(hook), "#!/bin/sh\n");
    }
    let git = world.asked_in(&work);
    let before = snapshot(world.root());
    let mut plan = plan_install(&git, &Target::Repository, &world.agent()).unwrap();
    plan.steps.push(Step::CreateFolder(world.path("no/such/parent")));
    let error = apply(&plan, &git).unwrap_err();
    assert!(matches!(&error, InstallError::Step { left, .. } if left.is_empty()), "{error}");
    assert!(error.to_string().ends_with("nothing was changed"), "{error}");
    assert_eq!(snapshot(world.root()), before);

    install(&world, &work);
    let installed = snapshot(world.root());
    let mut plan = plan_uninstall(&git, &Target::Repository).unwrap();
    plan.steps.push(Step::RemoveFolder(world.path("absent")));
    assert!(apply(&plan, &git).is_err());
    assert_eq!(snapshot(world.root()), installed);
}

#[test]
fn a_plan_prints_one_line_a_change_and_changes_nothing() {
    let world = any_world();
    let work = world.repository("r");
    world.script(&work.join(".git/hooks/post-commit"), "#!/bin/sh\n");
    let before = snapshot(world.root());
    let plan = plan_install(&world.asked_in(&work), &Target::Repository, &world.agent()).unwrap();
    let lines: Vec<_> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(snapshot(world.root()), before);
    let hooks = work.join(".git/hooks");
    let hooks = hooks.display();
    assert!(lines.iter().all(|line| !line.contains('\n')));
    assert!(lines.contains(&format!("move {hooks}/post-commit to {hooks}.before-gitops-agent/post-commit")));
    assert!(lines.contains(&format!("write {hooks}/post-commit (hook)")));
    assert!(lines.contains(&format!("link {hooks}/post-merge to {}", world.agent().display())));
}

#[test]
fn errors_name_the_place_and_the_next_step() {
    let world = any_world();
    let outside = world.asked_in(&world.home());
    let error = plan_install(&outside, &Target::Repository, &world.agent()).unwrap_err().to_string();
    assert!(error.contains("is not in a Git repository") && error.contains("--global"), "{error}");
    let work = world.repository("r");
    world.git(&work, &["config", "core.hooksPath", "/dev/null"]);
    let error = plan_install(&world.asked_in(&work), &Target::Repository, &world.agent()).unwrap_err();
    assert!(error.to_string().contains("--show-origin"), "{error}");
    world.git(&work, &["config", "--unset", "core.hooksPath"]);
    fs::create_dir(work.join(".git/hooks/post-commit")).unwrap();
    let error = plan_install(&world.asked_in(&work), &Target::Repository, &world.agent()).unwrap_err();
    assert!(error.to_string().contains("neither a file nor a link"), "{error}");
    let mut git = world.asked_in(&work);
    git.program = PathBuf::from("no-such-git");
    let error = plan_install(&git, &Target::Repository, &world.agent()).unwrap_err().to_string();
    assert!(error.contains("no-such-git") && error.contains("install Git"), "{error}");
}

#[test]
fn a_program_under_another_name_gets_the_script() {
    let world = any_world();
    let work = world.repository("r");
    let exe = world.path("bin/agent-0.1");
    symlink(world.agent(), &exe).unwrap();
    let git = world.asked_in(&work);
    apply(&plan_install(&git, &Target::Repository, &exe).unwrap(), &git).unwrap();
    let path = work.join(".git/hooks/post-commit");
    assert!(path.symlink_metadata().unwrap().is_file());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o111, 0o111);
}

#[test]
fn worktrees_of_a_bare_repository_share_its_hooks() {
    let world = any_world();
    let source = world.repository("source");
    let bare = world.path("project/.bare");
    fs::create_dir(world.path("project")).unwrap();
    world.git(&source, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let work = world.path("project/main");
    world.git(&bare, &["worktree", "add", "-q", work.to_str().unwrap(), "main"]);
    let before = snapshot(&world.path("project"));
    install(&world, &work);
    assert_eq!((state(&world, &work), state(&world, &bare)), (HookState::Active, HookState::Active));
    assert!(bare.join("hooks/post-receive").symlink_metadata().unwrap().is_symlink());
    assert_eq!(world.round(&work).agent, world.expected_agent_calls(&work));
    uninstall(&world, &bare);
    assert_eq!(snapshot(&world.path("project")), before);
}

#[test]
fn what_another_manager_renamed_goes_and_the_hook_before_ours_takes_its_name() {
    // lefthook renames what it finds to NAME.old; ours had a foreign hook to call.
    let world = any_world();
    let work = world.repository("r");
    let hooks = work.join(".git/hooks");
    world.script(&hooks.join("post-commit"), "#!/bin/sh\n# the first\n");
    install(&world, &work);
    fs::rename(hooks.join("post-commit"), hooks.join("post-commit.old")).unwrap();
    world.script(&hooks.join("post-commit"), "#!/bin/sh\n# a manager's\n");
    let without_us = |work: &Path| {
        uninstall(&world, work);
        assert_eq!(fs::read_to_string(hooks.join("post-commit")).unwrap(), "#!/bin/sh\n# a manager's\n");
        assert_eq!(fs::read_to_string(hooks.join("post-commit.old")).unwrap(), "#!/bin/sh\n# the first\n");
        assert!(!work.join(".git/hooks.before-gitops-agent").exists());
    };
    install(&world, &work);
    assert_eq!(state(&world, &work), HookState::Active);
    without_us(&work);
    install(&world, &work);
    without_us(&work);
}
