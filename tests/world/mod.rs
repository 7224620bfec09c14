//! A clean room for tests of the whole agent: real Git, the real binary as separate processes, a home of
//! its own, fixed names and dates.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

#[path = "../stores/emulator.rs"]
mod emulator;

pub use emulator::{Emulator, KEY as EMULATOR_KEY};

/// Waits until `condition` holds, at most `seconds`.
pub fn wait_for<T>(seconds: u64, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "{what} did not happen within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub struct World {
    dir: TempDir,
    commits: std::cell::Cell<u64>,
    variables: Vec<(String, String)>,
}

impl World {
    /// An empty home and an empty repository.
    pub fn new() -> Self {
        let world = Self::bare();
        std::fs::create_dir(world.repo()).unwrap();
        world.git(&["init", "-q", "-b", "main"]);
        world
    }

    /// An empty home.
    pub fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        Self { dir, commits: std::cell::Cell::new(0), variables: Vec::new() }
    }

    /// The same with Cosmos settings for an emulator.
    pub fn with_cosmos(endpoint: &str, tenant: &str) -> Self {
        let mut world = Self::new();
        world.set("COSMOS_ENDPOINT", endpoint);
        world.set("COSMOS_KEY", EMULATOR_KEY);
        world.set("GITOPS_AGENT_TENANT", tenant);
        world
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    /// `GITOPS_AGENT_HOME`.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn clean(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Ada Author")
            .env("GIT_AUTHOR_EMAIL", "Ada@example.com")
            .env("GIT_COMMITTER_NAME", "Carl Committer")
            .env("GIT_COMMITTER_EMAIL", "carl@example.com")
            .env("GITOPS_AGENT_HOME", self.home())
            .stdin(Stdio::null());
        for (name, value) in &self.variables {
            command.env(name, value);
        }
    }

    /// `git` in the repository, with an own date for each commit.
    pub fn git_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("git");
        self.clean(&mut command);
        let date = format!("{} +0200", 1_700_000_000 + self.commits.get() * 3600);
        command.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        command.current_dir(self.repo()).args(words);
        command
    }

    /// A shell script in the repository, which ends at the first failure; commits get the clock's dates.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        self.clean(&mut command);
        command.current_dir(self.repo()).args(["-euc", script]);
        command
    }

    /// Runs `git`, which must succeed; its standard output.
    pub fn git(&self, words: &[&str]) -> String {
        let output = self.git_command(words).output().unwrap();
        assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Writes a file and commits it; the commit's id.
    pub fn commit(&self, path: &str, text: &str, message: &str) -> String {
        let file = self.repo().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        self.git(&["add", "-A"]);
        self.commits.set(self.commits.get() + 1);
        self.git(&["commit", "-q", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// The agent, in the repository where there is one.
    pub fn agent(&self, words: &[&str]) -> Command {
        let mut command = Command::new(agent());
        self.clean(&mut command);
        let folder = if self.repo().is_dir() { self.repo() } else { self.dir.path().to_owned() };
        command.current_dir(folder).args(words);
        command
    }

    pub fn output(&self, words: &[&str]) -> Output {
        self.agent(words).output().unwrap()
    }

    /// Runs the agent, which must succeed; its standard output.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.output(words);
        assert!(
            output.status.success(),
            "gitops-agent {words:?} ended with {:?}\n{}{}",
            output.status.code(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and standard error.
    pub fn fails(&self, words: &[&str]) -> (i32, String) {
        let output = self.output(words);
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub fn json(&self, words: &[&str]) -> Value {
        let text = self.ok(words);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The records in the store.
    pub fn records(&self) -> Vec<Value> {
        let text = self.ok(&["query", "--format", "ndjson"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The record of a commit, once the worker has delivered it.
    pub fn delivered(&self, id: &str) -> Value {
        wait_for(30, "delivery", || self.records().into_iter().find(|record| record["id"] == id))
    }

    /// A history of `count` commits over a few files, with a merge now and then.
    pub fn history(&self, count: usize) {
        for number in 0..count {
            let path = format!("src/module{}/service.py", number % 7);
            let lines: String =
                (0..=number).map(|line| format!("value_{line} = {}\n", line * number)).collect();
            self.commit(&path, &lines, &format!("Change {number}"));
            if number % 10 == 9 {
                self.git(&["checkout", "-q", "-b", &format!("side{number}"), "HEAD~2"]);
                self.commit(&format!("side/{number}.txt"), "side\n", "On the side");
                self.git(&["checkout", "-q", "main"]);
                self.git(&["merge", "-q", "--no-ff", "-m", "Merge side", &format!("side{number}")]);
            }
        }
    }
}

/// The binary under test.
pub fn agent() -> &'static str {
    env!("CARGO_BIN_EXE_gitops-agent")
}
