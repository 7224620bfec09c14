//! A real Git repository in a temporary folder, out of reach of the machine's own settings.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(dead_code, reason = "every test file takes what it needs")]
#![allow(unreachable_pub, reason = "the module is part of each test crate")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Time of the first commit, 2026-01-01 in UTC; each command that may commit is a minute later.
pub const FIRST_COMMIT: i64 = 1_767_225_600;

/// A repository with a home of its own; both are removed at the end.
pub struct TestRepo {
    folder: tempfile::TempDir,
    time: Cell<i64>,
}

impl TestRepo {
    /// An empty repository on branch `main`.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// An empty repository, with further arguments for `git init`.
    pub fn with(arguments: &[&str]) -> Self {
        let repo = Self { folder: tempfile::tempdir().unwrap(), time: Cell::new(FIRST_COMMIT) };
        std::fs::create_dir_all(repo.path()).unwrap();
        std::fs::create_dir_all(repo.home()).unwrap();
        repo.git(&[&["init", "-q", "-b", "main"], arguments].concat());
        repo
    }

    /// The root of the worktree.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    /// An empty folder that stands for the user's home.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A path beside the worktree, for clones and worktrees.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The fixed surroundings of every process: names, a home, no settings, a clock that only this moves.
    pub fn environment(&self) -> Vec<(String, String)> {
        let date = format!("{} +0000", self.time.replace(self.time.get() + 60));
        let home = self.home().to_str().unwrap().to_owned();
        [
            ("PATH", std::env::var("PATH").unwrap()),
            ("HOME", home.clone()),
            ("XDG_CONFIG_HOME", format!("{home}/.config")),
            ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            ("GIT_AUTHOR_NAME", "A U Thor".to_owned()),
            ("GIT_AUTHOR_EMAIL", "author@example.org".to_owned()),
            ("GIT_AUTHOR_DATE", date.clone()),
            ("GIT_COMMITTER_NAME", "C O Mitter".to_owned()),
            ("GIT_COMMITTER_EMAIL", "committer@example.org".to_owned()),
            ("GIT_COMMITTER_DATE", date),
            ("GIT_TERMINAL_PROMPT", "0".to_owned()),
            ("LC_ALL", "C".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// A program in a folder, with only [`TestRepo::environment`] around it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env_clear().envs(self.environment());
        command
    }

    /// Runs Git in the worktree; its output without the last line end.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.path(), arguments)
    }

    /// Runs Git in another folder.
    #[track_caller]
    pub fn git_in(&self, folder: &Path, arguments: &[&str]) -> String {
        let output = self.command("git", folder).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "git {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Writes a file of the worktree, with its folders.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Commits everything in the worktree; the commit's id.
    #[track_caller]
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}
