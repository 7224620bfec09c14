//! The installer beside the real tools that also put hooks in: pre-commit, prek, lefthook, Husky and git-lfs,
//! those of them that PATH has. Each is set up first, then ours, then the tool once more, then ours once more;
//! its hook must fire each time, nothing may fail, and in the end every byte is as the tool left it.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::print_stdout, reason = "the table is for whoever runs it with --nocapture")]

mod install_support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use gitops_agent::install::{HookState, Target, apply, hook_report, plan_install, plan_uninstall};
use install_support::{World, gits, snapshot};

struct Tool {
    /// The program, which must be on PATH.
    program: &'static str,
    /// Files in the repository; `LOG` stands for the log's path.
    files: &'static [(&'static str, &'static str)],
    /// What puts the tool's hooks in.
    install: &'static [&'static str],
    /// Whether a second run of that takes our hooks out, in a Git that runs no configured hooks.
    evicts: bool,
}

const PRE_COMMIT: &str = "repos:\n- repo: local\n  hooks:\n  - id: x\n    name: x\n    entry: sh -c \"echo ran >>LOG\"\n    \
     language: system\n    stages: [post-commit, pre-push, post-merge]\n    always_run: true\n    pass_filenames: false\n";
const PRE_COMMIT_INSTALL: &[&str] = &["install", "-t", "post-commit", "-t", "pre-push", "-t", "post-merge"];

const TOOLS: &[Tool] = &[
    Tool {
        program: "pre-commit",
        files: &[(".pre-commit-config.yaml", PRE_COMMIT)],
        install: PRE_COMMIT_INSTALL,
        evicts: false,
    },
    Tool {
        program: "prek",
        files: &[(".pre-commit-config.yaml", PRE_COMMIT)],
        install: PRE_COMMIT_INSTALL,
        evicts: false,
    },
    Tool {
        program: "lefthook",
        files: &[(
            "lefthook.yml",
            "post-commit:\n  commands:\n    x:\n      run: echo ran post-commit >>LOG\npre-push:\n  commands:\n    \
             x:\n      use_stdin: true\n      run: echo ran pre-push {1} >>LOG && cat >>LOG\n",
        )],
        install: &["install"],
        evicts: true,
    },
    Tool {
        program: "husky",
        files: &[
            (".husky/post-commit", "echo \"ran $*\" >>LOG\n"),
            (".husky/pre-push", "echo \"ran $*\" >>LOG; cat >>LOG\n"),
            (".husky/post-rewrite", "echo \"ran $*\" >>LOG; cat >>LOG\n"),
        ],
        install: &[],
        evicts: true,
    },
    // Its hooks say nothing; that they are called is seen by `git lfs`, a stand-in in front of the real one.
    Tool { program: "git-lfs", files: &[], install: &["install", "--local"], evicts: false },
];

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A world with the tool in front.
struct Bench<'a> {
    world: &'a World,
    work: &'a Path,
    tool: &'a Tool,
}

impl Bench<'_> {
    fn path(&self) -> std::ffi::OsString {
        let path = std::env::var_os("PATH").unwrap();
        let git = self.world.asked_in(self.work).program;
        let first = [self.world.path("front"), git.parent().unwrap().to_owned()];
        std::env::join_paths(first.into_iter().chain(std::env::split_paths(&path))).unwrap()
    }

    fn run(&self, command: &mut Command) -> Option<i32> {
        let output = command
            .env("PATH", self.path())
            .env("PRE_COMMIT_HOME", self.world.path("cache"))
            .env("CI", "1")
            .env_remove("LEFTHOOK_BIN")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.status.code()
    }

    fn set_up_tool(&self) {
        let mut command = Command::new(self.tool.program);
        // The same environment as Git's, of this world.
        let git = self.world.command(self.work, &[]);
        for (name, value) in git.get_envs() {
            command.env(name, value.unwrap());
        }
        command.args(self.tool.install).current_dir(self.work);
        let code = self.run(&mut command);
        // git-lfs ends with 2 where a hook is not its own, and touches nothing.
        assert!(code == Some(0) || self.tool.program == "git-lfs", "{}: {code:?}", self.tool.program);
    }

    /// Commits, amends, merges and pushes; what the tool logged and how the commands ended.
    fn round(&self) -> (String, Vec<Option<i32>>, String) {
        for log in ["tool", "agent"] {
            let _ = fs::remove_file(self.world.path("logs").join(log));
        }
        let mut codes = Vec::new();
        for words in [
            &["commit", "-q", "--allow-empty", "-m", "second"][..],
            &["commit", "-q", "--allow-empty", "--amend", "-m", "amended"],
            &["reset", "-q", "--hard", "HEAD~1"],
            &["merge", "-q", "--ff-only", "ORIG_HEAD"],
            &["push", "-q", "../target.git", "HEAD:refs/heads/pushed"],
            &["push", "-q", "../target.git", ":refs/heads/pushed"],
            &["reset", "-q", "--hard", "HEAD~1"],
        ] {
            codes.push(self.run(&mut self.world.command(self.work, words)));
        }
        let read = |name: &str| fs::read_to_string(self.world.path("logs").join(name)).unwrap_or_default();
        (install_support::without_ids(&read("tool")), codes, install_support::without_ids(&read("agent")))
    }

    fn state(&self) -> HookState {
        hook_report(&self.world.asked_in(self.work)).unwrap().state
    }

    fn install(&self) {
        let git = self.world.asked_in(self.work);
        apply(&plan_install(&git, &Target::Repository, &self.world.agent()).unwrap(), &git).unwrap();
    }

    fn uninstall(&self) {
        let git = self.world.asked_in(self.work);
        apply(&plan_uninstall(&git, &Target::Repository).unwrap(), &git).unwrap();
    }
}

/// The hooks that the agent heard of, in order; how often an announcement comes does not matter.
fn heard(agent: &str) -> Vec<&str> {
    let mut hooks: Vec<&str> =
        agent.lines().filter_map(|line| line.strip_prefix("agent ")?.split(' ').next()).collect();
    hooks.dedup();
    hooks
}

fn beside(program: &Path, tool: &Tool) -> String {
    let world = World::new(program);
    let work = world.repository("r");
    world.git(world.root(), &["init", "-q", "--bare", world.path("target.git").to_str().unwrap()]);
    let log = world.path("logs/tool");
    if tool.program == "git-lfs" {
        let inner = which("git-lfs");
        world.script(
            &world.path("front/git-lfs"),
            &format!("#!/bin/sh\necho \"lfs $*\" >>'{}'\nexec '{}' \"$@\"\n", log.display(), inner),
        );
    }
    for (path, text) in tool.files {
        fs::create_dir_all(work.join(path).parent().unwrap()).unwrap();
        fs::write(work.join(path), text.replace("LOG", log.to_str().unwrap())).unwrap();
    }
    world.git(&work, &["add", "-A"]);
    world.git(&work, &["commit", "-q", "--allow-empty", "-m", "files"]);
    let bench = Bench { world: &world, work: &work, tool };
    bench.set_up_tool();
    let title = format!("{} with {}", tool.program, world.version().trim());
    let folder = work.join(if tool.program == "husky" { ".husky" } else { ".git/hooks" });
    let places = || (snapshot(&folder), fs::read_to_string(work.join(".git/config")).unwrap());
    let before = places();
    let alone = bench.round();
    assert!(alone.0.contains("ran") || alone.0.contains("lfs post-commit"), "{title}: {}", alone.0);
    assert!(alone.1.iter().all(|code| *code == Some(0)), "{title}: {:?}", alone.1);

    let calls = ["post-commit", "post-rewrite", "post-merge", "pre-push"];
    let check = |moment: &str| {
        let with = bench.round();
        assert_eq!((&with.0, &with.1), (&alone.0, &alone.1), "{title}, {moment}");
        assert_eq!(heard(&with.2), calls, "{title}, {moment}");
        assert_eq!(bench.state(), HookState::Active, "{title}, {moment}");
    };
    bench.install();
    check("installed");
    bench.set_up_tool();
    let evicted = bench.state() != HookState::Active;
    let configured =
        fs::read_to_string(work.join(".git/config")).unwrap().contains("gitops-agent-post-commit");
    assert_eq!(evicted, tool.evicts && !configured, "{title}: the tool once more");
    if evicted {
        let with = bench.round();
        assert_eq!((&with.0, &with.1), (&alone.0, &alone.1), "{title}, evicted");
    } else {
        check("the tool once more");
    }
    bench.install();
    check("ours once more");
    bench.uninstall();
    assert_eq!(places(), before, "{title}: every byte");
    assert_eq!(bench.round(), (alone.0, alone.1, String::new()), "{title}: uninstalled");
    let again = if evicted { "evicts ours; install again" } else { "keeps ours" };
    format!("{title:<32} | fires the same | {again:<27} | every byte back")
}

fn which(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap().to_str().unwrap().to_owned()
}

#[test]
fn real_tools_and_the_agent_leave_each_other_alone() {
    let programs = gits();
    for tool in TOOLS {
        if !is_on_path(tool.program) {
            println!(
                "{:<32} | not on PATH; its hook files are among the kinds of tests/install.rs",
                tool.program
            );
            continue;
        }
        for program in &programs {
            println!("{}", beside(program, tool));
        }
    }
}
