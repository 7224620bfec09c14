//! Asking Git: where hooks lie, what is configured, which worktrees there are.
//!
//! Only Git knows (linked worktrees, submodules, `core.hooksPath` in six scopes), so it is asked by
//! running it, at 1–2 ms a question. This is the slow path: the hook itself never comes here.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::InstallError;

/// What Git sets for the processes of one repository (`git rev-parse --local-env-vars`). Inherited,
/// these would make a question about one repository answer about another.
const LOCAL_VARIABLES: [&str; 16] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// The program `git`, and where it is asked.
#[derive(Clone, Debug)]
pub struct Git {
    /// The binary: a path, or a name to be found on PATH.
    pub program: PathBuf,
    /// The folder in which it runs: anywhere in a repository, or any folder for global questions.
    pub directory: PathBuf,
    /// Variables set on top of the inherited environment, such as another `HOME` for a scratch repository.
    pub environment: Vec<(OsString, OsString)>,
}

/// Where a configuration value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The repository's own file, shared by its worktrees.
    Local,
    /// The user's file.
    Global,
    /// The machine's file; read only.
    System,
}

impl Scope {
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Local => "--local",
            Self::Global => "--global",
            Self::System => "--system",
        }
    }
}

impl Git {
    /// The `git` on PATH, asked in `directory`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { program: PathBuf::from("git"), directory: directory.into(), environment: Vec::new() }
    }

    /// The same Git, asked elsewhere.
    pub(super) fn at(&self, directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..self.clone() }
    }

    /// Major and minor version.
    ///
    /// # Errors
    /// Where Git cannot be started.
    pub fn version(&self) -> Result<(u32, u32), InstallError> {
        let text = self.text(["--version"])?;
        let mut parts = text
            .split_whitespace()
            .nth(2)
            .unwrap_or_default()
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or_default());
        Ok((parts.next().unwrap_or_default(), parts.next().unwrap_or_default()))
    }

    /// Whether this Git runs hooks that are named in the configuration (2.54 and later).
    pub(super) fn runs_configured_hooks(&self) -> Result<bool, InstallError> {
        Ok(self.version()? >= (2, 54))
    }

    /// The folder in which Git looks for hooks here. Git's own answer, so it need not exist.
    pub(super) fn hooks_folder(&self) -> Result<PathBuf, InstallError> {
        self.path(["rev-parse", "--path-format=absolute", "--git-path", "hooks"])
    }

    /// The folder that all worktrees of the repository share.
    pub(super) fn common_folder(&self) -> Result<PathBuf, InstallError> {
        self.path(["rev-parse", "--path-format=absolute", "--git-common-dir"])
    }

    /// Whether the repository is one without files of its own, which others push to. Also true in a worktree
    /// that was added to such a one.
    pub(super) fn is_bare(&self) -> Result<bool, InstallError> {
        Ok(self.config(None, false, "core.bare")?.is_some_and(|value| value == b"true"))
    }

    /// The root of the worktree; `None` in a bare repository and inside a Git folder.
    pub(super) fn work_tree(&self) -> Result<Option<PathBuf>, InstallError> {
        let answer = self.run(["rev-parse", "--is-inside-work-tree"])?;
        if trim(&answer.stdout) == b"true" {
            self.path(["rev-parse", "--path-format=absolute", "--show-toplevel"]).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The folders of all worktrees that exist, the one asked from first.
    pub(super) fn worktrees(&self) -> Result<Vec<PathBuf>, InstallError> {
        let mut folders = vec![self.directory.clone()];
        let list = self.text(["worktree", "list", "--porcelain"])?;
        for line in list.lines() {
            if let Some(path) = line.strip_prefix("worktree ").map(PathBuf::from)
                && path.is_dir()
            {
                folders.push(path);
            }
        }
        Ok(folders)
    }

    /// Whether Git tracks anything in `folder`, which must lie in the worktree.
    pub(super) fn tracks(&self, folder: &Path) -> Result<bool, InstallError> {
        let output = self.run([OsStr::new("ls-files"), "--".as_ref(), folder.as_os_str()])?;
        Ok(output.status.success() && !output.stdout.is_empty())
    }

    /// The last value of a key; `scope` `None` asks for the one in force.
    pub(super) fn config(
        &self,
        scope: Option<Scope>,
        path: bool,
        key: &str,
    ) -> Result<Option<Vec<u8>>, InstallError> {
        let mut arguments = vec!["config"];
        arguments.extend(scope.map(Scope::flag));
        arguments.extend(path.then_some("--type=path"));
        arguments.extend(["-z", "--get", key]);
        let output = self.run(&arguments)?;
        match output.status.code() {
            Some(0) => Ok(Some(output.stdout.strip_suffix(b"\0").unwrap_or(&output.stdout).to_vec())),
            // 1: no such key. 128: outside a repository, or no file in that scope.
            Some(1) => Ok(None),
            Some(128) if scope == Some(Scope::System) => Ok(None),
            _ => Err(self.failed(&arguments, &output)),
        }
    }

    /// Where the value in force of a key is set, as Git names it, and the value.
    pub(super) fn config_origin(&self, key: &str) -> Result<Option<(String, String)>, InstallError> {
        let output = self.run(["config", "--show-origin", "-z", "--get", key])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut words = text.split('\0');
        let found = words.next().zip(words.next()).filter(|_| output.status.success());
        Ok(found.map(|(origin, value)| (origin.to_owned(), value.to_owned())))
    }

    /// Every key and value whose key begins with `prefix` (lower case), in file order.
    pub(super) fn config_entries(
        &self,
        scope: Option<Scope>,
        prefix: &str,
    ) -> Result<Vec<(String, String)>, InstallError> {
        let mut arguments = vec!["config"];
        arguments.extend(scope.map(Scope::flag));
        let pattern = format!("^{}", prefix.replace('.', "\\."));
        arguments.extend(["-z", "--get-regexp", &pattern]);
        let output = self.run(&arguments)?;
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout)
                .split('\0')
                .filter_map(|entry| entry.split_once('\n'))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect()),
            Some(1) => Ok(Vec::new()),
            _ => Err(self.failed(&arguments, &output)),
        }
    }

    /// The file that `git config` in this scope reads, as far as Git names one with content.
    pub(super) fn config_file(&self, scope: Scope) -> Result<Option<PathBuf>, InstallError> {
        let output = self.run(["config", scope.flag(), "-z", "--show-origin", "--list"])?;
        let first = output.stdout.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(first.strip_prefix(b"file:").filter(|_| output.status.success()).map(to_path))
    }

    /// Changes the configuration.
    pub(super) fn configure<I, S>(&self, scope: Scope, arguments: I) -> Result<(), InstallError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut all = vec![OsString::from("config"), scope.flag().into()];
        all.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        let output = self.run(&all)?;
        if output.status.success() { Ok(()) } else { Err(self.failed(&all, &output)) }
    }

    fn path<const N: usize>(&self, arguments: [&str; N]) -> Result<PathBuf, InstallError> {
        let output = self.run(arguments)?;
        if output.status.success() {
            Ok(to_path(trim(&output.stdout)))
        } else {
            Err(self.failed(&arguments, &output))
        }
    }

    fn text<const N: usize>(&self, arguments: [&str; N]) -> Result<String, InstallError> {
        let output = self.run(arguments)?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(trim(&output.stdout)).into_owned())
        } else {
            Err(self.failed(&arguments, &output))
        }
    }

    fn run<I, S>(&self, arguments: I) -> Result<Output, InstallError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.directory).stdin(Stdio::null());
        for name in LOCAL_VARIABLES {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.output().map_err(|source| InstallError::NoGit {
            program: self.program.clone(),
            directory: self.directory.clone(),
            source,
        })
    }

    fn failed(&self, arguments: &[impl AsRef<OsStr>], output: &Output) -> InstallError {
        let message = String::from_utf8_lossy(trim(&output.stderr)).into_owned();
        if message.contains("not a git repository") {
            return InstallError::NotARepository { directory: self.directory.clone() };
        }
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        InstallError::Git { command: words.join(" "), message }
    }
}

/// Git ends an answer with one newline; a path may hold others.
fn trim(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").unwrap_or(bytes)
}

/// A path as Git prints it.
#[cfg(unix)]
pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// A path as Git prints it: UTF-8 on this platform.
#[cfg(not(unix))]
pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

/// A path as a shell on this platform takes it.
#[cfg(unix)]
pub(super) fn to_bytes(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec()
}

/// A path as a shell on this platform takes it: Git's shell on Windows reads `/`, never `\`.
#[cfg(not(unix))]
pub(super) fn to_bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().replace('\\', "/").into_bytes()
}
