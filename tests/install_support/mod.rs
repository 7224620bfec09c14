//! A clean room for the installer's tests: a home of its own, real Git, a stand-in for the agent, and
//! the kinds of hooks that people have.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gitops_agent::install::Git;

/// Every version of Git on PATH, once.
pub(crate) fn gits() -> Vec<PathBuf> {
    let mut found: BTreeMap<Vec<u8>, PathBuf> = BTreeMap::new();
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let program = folder.join("git");
        if let Ok(output) = Command::new(&program).arg("--version").output() {
            found.entry(output.stdout).or_insert(program);
        }
    }
    assert!(!found.is_empty(), "no git on PATH");
    found.into_values().collect()
}

/// What one round of Git commands did.
#[derive(Debug)]
pub(crate) struct Round {
    /// What the foreign hooks wrote down, commit ids replaced.
    pub(crate) foreign: String,
    /// What the agent was called with, commit ids replaced.
    pub(crate) agent: String,
    /// Exit code of each Git command.
    pub(crate) codes: Vec<Option<i32>>,
}

/// A folder with a home, repositories and the agent's stand-in.
pub(crate) struct World {
    folder: tempfile::TempDir,
    root: PathBuf,
    git: PathBuf,
}

impl World {
    /// A new world for this Git.
    pub(crate) fn new(git: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let world = Self { folder, root, git: git.to_owned() };
        for name in ["home", "bin", "logs"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        fs::write(
            world.home().join(".gitconfig"),
            "[user]\n\tname = A\n\temail = a@example.org\n[init]\n\tdefaultBranch = main\n[advice]\n\tignoredHook = false\n",
        )
        .unwrap();
        // As a link it is called by the hook's name, from a script with `hook` and the name.
        world.script(
            &world.agent(),
            &format!(
                "#!/bin/sh\n\
                 case ${{0##*/}} in gitops-agent) shift ;; *) set -- \"${{0##*/}}\" \"$@\" ;; esac\n\
                 {{ echo \"agent $*\"; case $1 in post-rewrite|pre-push|post-receive) cat ;; esac; }} >>'{}'\n\
                 exit 3\n",
                world.path("logs/agent").display()
            ),
        );
        world
    }

    /// The folder of everything.
    pub(crate) fn root(&self) -> &Path {
        debug_assert!(self.folder.path().exists());
        &self.root
    }

    /// Something in this world.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// HOME.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The stand-in. It fails always, which nobody may notice.
    pub(crate) fn agent(&self) -> PathBuf {
        self.path("bin/gitops-agent")
    }

    /// Git's version line.
    pub(crate) fn version(&self) -> String {
        String::from_utf8(self.command(&self.root, &["--version"]).output().unwrap().stdout).unwrap()
    }

    /// Git, as the installer asks it.
    pub(crate) fn asked_in(&self, directory: &Path) -> Git {
        let environment = self.environment().into_iter().map(|(key, value)| (key.into(), value.into()));
        Git { program: self.git.clone(), directory: directory.to_owned(), environment: environment.collect() }
    }

    fn environment(&self) -> [(&'static str, String); 6] {
        [
            ("HOME", self.home().to_str().unwrap().to_owned()),
            ("XDG_CONFIG_HOME", self.home().join(".config").to_str().unwrap().to_owned()),
            ("GIT_CONFIG_GLOBAL", self.home().join(".gitconfig").to_str().unwrap().to_owned()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            ("GIT_AUTHOR_DATE", "2024-02-29T12:00:00Z".to_owned()),
            ("GIT_COMMITTER_DATE", "2024-02-29T12:00:00Z".to_owned()),
        ]
    }

    /// A Git command, not yet run.
    pub(crate) fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.git);
        command.args(arguments).current_dir(directory).envs(self.environment());
        // The copies of lefthook's hook must find the stand-in, also where PATH has the real one.
        command.env("LEFTHOOK_BIN", self.path("bin/tool"));
        command
    }

    /// Runs a Git command that must succeed.
    pub(crate) fn git(&self, directory: &Path, arguments: &[&str]) -> String {
        let output = self.command(directory, arguments).output().unwrap();
        assert!(
            output.status.success(),
            "git {arguments:?} in {}: {}",
            directory.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A repository with one commit.
    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        self.git(&self.root, &["init", "-q", path.to_str().unwrap()]);
        self.git(&path, &["commit", "-q", "--allow-empty", "-m", "first"]);
        path
    }

    /// Writes an executable script.
    pub(crate) fn script(&self, path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes Git call each of the five hooks, as far as the place can, and collects what was called.
    pub(crate) fn round(&self, work: &Path) -> Round {
        for log in ["foreign", "agent"] {
            let _ = fs::remove_file(self.path("logs").join(log));
        }
        let mut codes = Vec::new();
        let mut run = |arguments: &[&str], input: &[u8]| {
            let mut command = self.command(work, arguments);
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(input).unwrap();
            codes.push(child.wait().unwrap().code());
        };
        if !self.is_bare(work) {
            run(&["commit", "-q", "--allow-empty", "-m", "second"], b"");
            run(&["commit", "-q", "--allow-empty", "--amend", "-m", "amended"], b"");
            run(&["reset", "-q", "--hard", "HEAD~1"], b"");
            run(&["merge", "-q", "--ff-only", "ORIG_HEAD"], b"");
            run(&["am", "-q"], PATCH);
            run(&["reset", "-q", "--hard", "HEAD~1"], b"");
        }
        let target = work.with_file_name("target.git");
        self.git(&self.root, &["init", "-q", "--bare", target.to_str().unwrap()]);
        run(&["push", "-q", "../target.git", "HEAD:refs/heads/pushed"], b"");
        if self.is_bare(work) {
            // The other way round: a commit that its hooks know nothing of comes in.
            let clone = work.with_file_name("clone");
            self.git(&self.root, &["clone", "-q", work.to_str().unwrap(), clone.to_str().unwrap()]);
            self.git(&clone, &["commit", "-q", "--allow-empty", "-m", "pushed"]);
            let mut push = self.command(&clone, &["push", "-q", "origin", "HEAD:refs/heads/arrived"]);
            codes.push(push.stderr(Stdio::null()).status().unwrap().code());
            self.git(work, &["update-ref", "-d", "refs/heads/arrived"]);
            fs::remove_dir_all(&clone).unwrap();
        } else {
            run(&["reset", "-q", "--hard", "HEAD~1"], b"");
        }
        fs::remove_dir_all(&target).unwrap();
        let read = |name: &str| {
            let text = fs::read(self.path("logs").join(name)).unwrap_or_default();
            without_ids(&String::from_utf8(text).unwrap())
        };
        Round { foreign: read("foreign"), agent: read("agent"), codes }
    }

    /// What the agent must hear in a round.
    pub(crate) fn expected_agent_calls(&self, work: &Path) -> String {
        let push = "agent pre-push ../target.git ../target.git\nHEAD ID refs/heads/pushed ID\n";
        if self.is_bare(work) {
            return format!("{push}agent post-receive\nID ID refs/heads/arrived\n");
        }
        format!(
            "agent post-commit\nagent post-commit\nagent post-rewrite amend\nID ID\nagent post-merge 0\n\
             agent post-applypatch\n{push}"
        )
    }

    fn is_bare(&self, work: &Path) -> bool {
        self.git(work, &["rev-parse", "--is-bare-repository"]).trim() == "true"
    }
}

const PATCH: &[u8] = b"From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n\
From: B <b@example.org>\nDate: Thu, 29 Feb 2024 12:00:00 +0000\nSubject: [PATCH] mailed\n\n---\n\
diff --git a/mailed b/mailed\nnew file mode 100644\nindex 0000000..257cc56\n--- /dev/null\n+++ b/mailed\n\
@@ -0,0 +1 @@\n+foo\n-- \n2.39.5\n";

/// The text with commit ids replaced.
pub(crate) fn without_ids(text: &str) -> String {
    text.split_inclusive([' ', '\n'])
        .map(|word| {
            let core = word.trim_end();
            if core.len() == 40 && core.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                word.replace(core, "ID")
            } else {
                word.to_owned()
            }
        })
        .collect()
}

/// Everything under a folder that an installer could touch: mode, content or link target. What Git
/// itself changes with each commit is left out.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<String, String> {
    const GITS_OWN: [&str; 7] =
        ["objects", "logs", "refs", "index", "COMMIT_EDITMSG", "ORIG_HEAD", "packed-refs"];
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if GITS_OWN.contains(&name.as_str()) {
                continue;
            }
            let data = path.symlink_metadata().unwrap();
            let mode = data.permissions().mode();
            let what = if data.is_symlink() {
                format!("link {}", fs::read_link(&path).unwrap().display())
            } else if data.is_dir() {
                folders.push(path.clone());
                format!("{mode:o} folder")
            } else {
                format!("{mode:o} {:?}", String::from_utf8_lossy(&fs::read(&path).unwrap()))
            };
            all.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), what);
        }
    }
    all
}

/// A kind of hook that somebody has.
pub(crate) struct Kind {
    /// For messages.
    pub(crate) name: &'static str,
    /// Whether Git runs it.
    pub(crate) fires: bool,
    make: fn(&World, &Path),
}

impl Kind {
    /// Puts hooks of this kind into a folder.
    pub(crate) fn put(&self, world: &World, folder: &Path) {
        (self.make)(world, folder);
    }
}

/// What every foreign hook writes down: its own name, its arguments and its input.
fn record(world: &World) -> String {
    format!(
        "{{ echo \"foreign ${{0##*/}} $*\"; case ${{0##*/}} in post-rewrite|pre-push|post-receive) cat ;; esac; }} >>'{}'\n",
        world.path("logs/foreign").display()
    )
}

fn each(world: &World, folder: &Path, text: &str) {
    for hook in gitops_agent::install::ALL_HOOKS {
        world.script(&folder.join(hook), text);
    }
}

/// Puts in hooks as a tool wrote them (byte for byte but for the names `@HOOK@` and `@TOOL@`), and a stand-in for
/// the tool, which first runs `parse` to find `hook` and the hook's own arguments.
fn tool(world: &World, folder: &Path, template: &str, parse: &str) {
    let stand_in = world.path("bin/tool");
    let log = world.path("logs/foreign");
    world.script(
        &stand_in,
        &format!(
            "#!/bin/sh\n{parse}{{ echo \"tool $hook $*\"; case $hook in post-rewrite|pre-push|post-receive) cat ;; esac; }} \
             >>'{}'\n",
            log.display()
        ),
    );
    for hook in gitops_agent::install::ALL_HOOKS {
        let text = template.replace("@HOOK@", hook).replace("@TOOL@", stand_in.to_str().unwrap());
        world.script(&folder.join(hook), &text);
    }
}

/// How pre-commit and prek are called.
const HOOK_IMPL: &str = "while [ $# -gt 0 ]; do case $1 in --hook-type=*) hook=${1#*=} ;; --) shift; break ;; esac; shift; done\n";

/// Kinds of existing hooks.
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "none", fires: false, make: |_, _| {} },
    Kind {
        name: "shell that ends in exit 0",
        fires: true,
        make: |world, folder| each(world, folder, &format!("#!/bin/sh\n{}exit 0\n", record(world))),
    },
    Kind {
        name: "shell that fails",
        fires: true,
        make: |world, folder| each(world, folder, &format!("#!/bin/sh\n{}exit 7\n", record(world))),
    },
    Kind {
        name: "shell that leaves its input alone",
        fires: true,
        make: |world, folder| {
            let log = world.path("logs/foreign");
            each(world, folder, &format!("#!/bin/sh\necho \"${{0##*/}} $*\" >>'{}'\n", log.display()));
        },
    },
    Kind {
        name: "exec of another program",
        fires: true,
        make: |world, folder| {
            let inner = world.path("bin/inner");
            world.script(&inner, &format!("#!/bin/sh\n{}", record(world)));
            each(world, folder, &format!("#!/bin/sh\nexec '{}' \"$@\"\n", inner.display()));
        },
    },
    Kind {
        name: "Python",
        fires: true,
        make: |world, folder| {
            let log = world.path("logs/foreign");
            let text = format!(
                "#!/usr/bin/env python3\nimport os, sys\nname = os.path.basename(sys.argv[0])\n\
                 with open({:?}, 'a') as log:\n    print('python', name, *sys.argv[1:], file=log)\n    \
                 if name in ('post-rewrite', 'pre-push', 'post-receive'):\n        log.write(sys.stdin.read())\nsys.exit(4)\n",
                log.to_str().unwrap()
            );
            each(world, folder, &text);
        },
    },
    Kind { name: "no first line", fires: true, make: |world, folder| each(world, folder, &record(world)) },
    Kind {
        name: "links to one script elsewhere",
        fires: true,
        make: |world, folder| {
            world.script(&folder.with_file_name("dispatch"), &format!("#!/bin/sh\n{}", record(world)));
            for hook in gitops_agent::install::ALL_HOOKS {
                symlink("../dispatch", folder.join(hook)).unwrap();
            }
        },
    },
    Kind {
        // overcommit, and others that find out from their own name what they are.
        name: "links to one script in the same folder",
        fires: true,
        make: |world, folder| {
            world.script(&folder.join("overcommit-hook"), &format!("#!/bin/sh\n{}", record(world)));
            for hook in gitops_agent::install::ALL_HOOKS {
                symlink("overcommit-hook", folder.join(hook)).unwrap();
            }
        },
    },
    Kind {
        // A wrapper sources a helper beside it, which runs the hook one folder up.
        name: "Husky",
        fires: true,
        make: |world, folder| {
            fs::write(folder.join("h"), include_str!("hooks/husky-9.1-h")).unwrap();
            for hook in gitops_agent::install::ALL_HOOKS {
                world.script(&folder.join(hook), include_str!("hooks/husky-9.1"));
                fs::write(folder.with_file_name(hook), record(world)).unwrap();
            }
        },
    },
    Kind {
        name: "pre-commit",
        fires: true,
        make: |world, folder| tool(world, folder, include_str!("hooks/pre-commit-4.7"), HOOK_IMPL),
    },
    Kind {
        name: "prek",
        fires: true,
        make: |world, folder| tool(world, folder, include_str!("hooks/prek-0.5"), HOOK_IMPL),
    },
    Kind {
        name: "lefthook",
        fires: true,
        make: |world, folder| {
            let run = "[ \"$1\" = -h ] && exit\nhook=$2\nshift 2\n";
            tool(world, folder, include_str!("hooks/lefthook-2.2"), run);
        },
    },
    Kind {
        // pre-commit and prek look for the hook from before beside themselves.
        name: "pre-commit with a legacy hook",
        fires: true,
        make: |world, folder| {
            each(
                world,
                folder,
                "#!/usr/bin/env bash\nHERE=\"$(cd \"$(dirname \"$0\")\" && pwd)\"\n\
                 exec \"$HERE/$(basename \"$0\").legacy\" \"$@\"\n",
            );
            for hook in gitops_agent::install::ALL_HOOKS {
                world
                    .script(&folder.join(format!("{hook}.legacy")), &format!("#!/bin/sh\n{}", record(world)));
            }
        },
    },
    Kind {
        // As on a GUI's PATH; with git-lfs there: tests/install_tools.rs.
        name: "git-lfs without git-lfs",
        fires: false,
        make: |world, folder| {
            for hook in gitops_agent::install::ALL_HOOKS {
                let text = include_str!("hooks/git-lfs-3.3").replace("@HOOK@", hook);
                world.script(&folder.join(hook), &text.replace("git-lfs >", "git-lfs-absent >"));
            }
        },
    },
    Kind {
        // Only the first line must end as Unix wants it: a comment behind each command takes the rest.
        name: "line ends of Windows after the first",
        fires: true,
        make: |world, folder| {
            let text = format!("#!/bin/sh\n{}", record(world)).replace("'\n", "' #\r\n") + "exit 0 #\r\n";
            each(world, folder, &text);
        },
    },
    Kind {
        name: "paths of Windows",
        fires: true,
        make: |world, folder| {
            let text = format!(
                "#!/bin/sh\ntool='C:\\Program Files\\Tool\\tool.exe'\n[ -x \"$tool\" ] && exec \"$tool\" \"$@\"\n\
                 echo \"$tool\" >>'{}'\n{}",
                world.path("logs/foreign").display(),
                record(world)
            );
            each(world, folder, &text);
        },
    },
    Kind {
        // The first line names a program that does not exist. Not for pre-push: there Git 2.39 waits for
        // ever when a hook cannot be started, with or without us.
        name: "line ends of Windows",
        fires: false,
        make: |world, folder| {
            each(world, folder, "#!/bin/sh\r\nexit 0\r\n");
            fs::remove_file(folder.join("pre-push")).unwrap();
            fs::remove_file(folder.join("post-receive")).unwrap();
        },
    },
    Kind {
        name: "not executable",
        fires: false,
        make: |world, folder| {
            each(world, folder, &format!("#!/bin/sh\n{}exit 9\n", record(world)));
            for hook in gitops_agent::install::ALL_HOOKS {
                fs::set_permissions(folder.join(hook), fs::Permissions::from_mode(0o640)).unwrap();
            }
        },
    },
    Kind {
        name: "links to nowhere",
        fires: false,
        make: |_, folder| {
            for hook in gitops_agent::install::ALL_HOOKS {
                symlink("/nowhere/at/all", folder.join(hook)).unwrap();
            }
        },
    },
    Kind {
        name: "some hooks, read-only, with samples",
        fires: true,
        make: |world, folder| {
            for hook in ["post-commit", "pre-push", "pre-commit"] {
                let path = folder.join(hook);
                world.script(&path, &format!("#!/bin/sh -e\n{}", record(world)));
                fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
            }
            fs::write(folder.join("post-update.sample"), "sample\n").unwrap();
        },
    },
];
