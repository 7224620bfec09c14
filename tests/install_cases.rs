//! The installer's edges with real Git: all repositories of a user, upgrades, what people change
//! after an installation, what goes wrong half-way, and what the hooks do where the agent is gone.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod install_support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use gitops_agent::install::{
    Git, HOOKS, HookState, InstallError, Plan, Step, Target, apply, hook_report, plan_install, plan_uninstall,
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
            fs::remove_dir(world.home().join("data/gitops-agent")).unwrap();
            fs::remove_dir(world.home().join("data")).unwrap();
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
        KINDS.iter().find(|other| other.name == kind).unwrap().put(&world, &work.join(".git/hooks"));
        let alone = world.round(&work);
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
