//! A real commit, by the real Git, with the real hooks, in a scratch repository that has a home, settings and
//! a store of its own; its record is read back from that store, and everything is removed.
//!
//! Nothing of the user's is in reach: the child processes get no variable of Git, of the agent, of Cosmos DB or of
//! Azure, another HOME, no Git configuration, and `GITOPS_AGENT_HOME` in the scratch folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gitops_agent::delivery;
use gitops_agent::install::{self, Git, Target};
use gitops_agent::store::local::LocalStore;
use gitops_agent::store::{Key, Store as _};
use jiff::Timestamp;

use super::super::session::block_on;
use super::{Findings, process, shown};

/// How long Git may take for one command, and the worker for the delivery.
const PATIENCE: Duration = Duration::from_secs(20);
const DATE: &str = "2024-02-29";
const MEND: &str = "`gitops-agent -v doctor` again; if it fails the same way, report it with this output";

pub(super) fn look(program: Option<&Path>, found: &mut Findings) {
    let exe = match program.map_or_else(std::env::current_exe, |program| Ok(program.to_owned())) {
        Ok(exe) => exe,
        Err(error) => return found.failed("capture", format!("this program has no path: {error}"), MEND),
    };
    let outcome = Scratch::new().and_then(|scratch| {
        let outcome = scratch.prove(&exe);
        scratch.wait_for_worker();
        outcome
    });
    match outcome {
        Ok(took) => found.ok(
            "capture",
            format!("a commit in a scratch repository was recorded and delivered ({} ms)", took.as_millis()),
        ),
        Err(problem) => found.failed("capture", problem, MEND),
    }
}

/// A folder that is removed in the end.
struct Scratch {
    root: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the system's temporary folder's to clean up.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

impl Scratch {
    fn new() -> Result<Self, String> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("gitops-agent-doctor-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let root = std::env::temp_dir().join(name);
        let problem = |error| format!("no scratch repository can be made: {}: {error}", shown(&root));
        std::fs::DirBuilder::new().mode(0o700).create(&root).map_err(problem)?;
        let root = std::path::absolute(&root).map_err(problem)?;
        let scratch = Self { root };
        for name in ["home", "data", "repo"] {
            let path = scratch.path(name);
            std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", shown(&path)))?;
        }
        Ok(scratch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// What the children get instead of the user's.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let date = format!("{DATE}T12:00:00Z");
        [
            ("HOME", self.path("home").into_os_string()),
            ("XDG_CONFIG_HOME", self.path("home/config").into_os_string()),
            ("GITOPS_AGENT_HOME", self.path("data").into_os_string()),
            ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
            ("GIT_TEMPLATE_DIR", self.path("home").into_os_string()),
            ("GIT_AUTHOR_NAME", "doctor".into()),
            ("GIT_AUTHOR_EMAIL", "doctor@example.invalid".into()),
            ("GIT_COMMITTER_NAME", "doctor".into()),
            ("GIT_COMMITTER_EMAIL", "doctor@example.invalid".into()),
            ("GIT_AUTHOR_DATE", date.clone().into()),
            ("GIT_COMMITTER_DATE", date.into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect()
    }

    fn git(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new("git");
        command.args(words).current_dir(self.path("repo"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_users(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.envs(self.environment());
        let output = process::within(command, PATIENCE).map_err(|error| format!("git {words:?}: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match (output.status.success(), text(&output.stderr)) {
            // A hook that works says nothing, and Git is asked to be quiet.
            (true, said) if said.is_empty() => Ok(text(&output.stdout)),
            (_, said) => Err(format!("git {words:?} said: {said}")),
        }
    }

    /// Commits, and waits for the record; how long that took from the commit's start.
    fn prove(&self, exe: &Path) -> Result<Duration, String> {
        self.git(&["init", "-q"])?;
        let asked = Git { environment: self.environment(), ..Git::new(self.path("repo")) };
        let plan =
            install::plan_install(&asked, &Target::Repository, exe).map_err(|error| error.to_string())?;
        install::apply(&plan, &asked).map_err(|error| error.to_string())?;
        let file = self.path("repo/scratch.txt");
        std::fs::write(&file, "scratch\n").map_err(|error| format!("{}: {error}", shown(&file)))?;
        self.git(&["add", "scratch.txt"])?;
        let start = Instant::now();
        self.git(&["commit", "-q", "-m", "A commit of the doctor"])?;
        let id = self.git(&["rev-parse", "HEAD"])?;
        self.read_back(&id)?;
        Ok(start.elapsed())
    }

    fn read_back(&self, id: &str) -> Result<(), String> {
        let store = LocalStore::open(&self.path("data")).map_err(|error| error.message)?;
        let key = Key { tenant: "local".to_owned(), date: DATE.to_owned(), id: id.to_owned() };
        let start = Instant::now();
        loop {
            let stored = block_on(store.read(&key)).map_err(|failure| failure.line())?;
            if let Some(stored) = stored.map_err(|error| error.message)?.value {
                let files = &stored.document["filesChanged"];
                return match files[0]["path"].as_str() {
                    Some("scratch.txt") => Ok(()),
                    _ => Err(format!("the record of the scratch commit names other files: {files}")),
                };
            }
            if start.elapsed() >= PATIENCE {
                return Err(self.why_not());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How far the record came.
    fn why_not(&self) -> String {
        let waits = gitops_agent::outbox::Outbox::open(&self.path("data"))
            .and_then(|mut outbox| {
                let spool = gitops_agent::outbox::spool_in(&self.path("data"));
                outbox.take_in_spool(&[spool], Timestamp::now())?;
                outbox.stats(Timestamp::now())
            })
            .is_ok_and(|stats| stats.pending + stats.held + stats.refused > 0);
        let seconds = PATIENCE.as_secs();
        if waits {
            format!("a scratch commit was recorded, but not delivered within {seconds} s: no worker ran")
        } else {
            format!(
                "a scratch commit was not recorded within {seconds} s: Git did not run the hook, or it failed"
            )
        }
    }

    /// A worker that is still tidying up would make its folder anew.
    fn wait_for_worker(&self) {
        let start = Instant::now();
        while let Ok(None) = delivery::WorkerLock::try_acquire(&self.path("data")) {
            if start.elapsed() >= PATIENCE {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Variables that would let the user's settings, repository or account in.
fn is_users(name: &str) -> bool {
    ["GIT_", "GITOPS_AGENT", "COSMOS_", "AZURE_", "XDG_"].iter().any(|prefix| name.starts_with(prefix))
}
