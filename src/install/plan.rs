//! A plan: every change that an installation makes, as values, and carrying it out.
//!
//! What `--dry-run` prints is what [`apply`] does, step by step. A step that fails takes back the
//! steps before it, in reverse; files are replaced by rename, so that Git never sees half of one.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::git::{Git, Scope};
use super::{InstallError, io_error};

/// What will be changed, and what a person should know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes in order; empty where everything is as it should be.
    pub steps: Vec<Step>,
    /// One line each, for the person who installs.
    pub notes: Vec<String>,
}

/// One change. `Display` is one line for `--dry-run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a folder, whose parent exists.
    CreateFolder(PathBuf),
    /// Moves a file or link that is not ours, as it is.
    Move {
        /// Where it is.
        from: PathBuf,
        /// Where it goes; nothing is there.
        to: PathBuf,
    },
    /// Makes a symbolic link, in place of what was there.
    Link {
        /// The link.
        at: PathBuf,
        /// What it points to.
        to: PathBuf,
    },
    /// Writes a file, in place of what was there.
    Write {
        /// The file.
        at: PathBuf,
        /// Its whole content.
        content: Vec<u8>,
        /// Mode 0755 instead of 0644 (both less the umask).
        executable: bool,
    },
    /// Removes a file or link of ours.
    Remove(PathBuf),
    /// Removes a folder of ours, empty by then.
    RemoveFolder(PathBuf),
    /// Removes a configuration file that the steps before left empty; one with content stays.
    RemoveIfEmpty(PathBuf),
    /// Sets a configuration key to one value.
    SetConfig {
        /// In which file.
        scope: Scope,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Removes a configuration key.
    UnsetConfig {
        /// From which file.
        scope: Scope,
        /// The key.
        key: String,
    },
    /// Removes a section of the configuration. Key by key, Git would meet a hook without a command.
    RemoveSection {
        /// From which file.
        scope: Scope,
        /// The section, such as `hook.gitops-agent-post-commit`.
        section: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateFolder(path) => write!(f, "create folder {}", path.display()),
            Self::Move { from, to } => write!(f, "move {} to {}", from.display(), to.display()),
            Self::Link { at, to } => write!(f, "link {} to {}", at.display(), to.display()),
            Self::Write { at, executable: true, .. } => write!(f, "write {} (hook)", at.display()),
            Self::Write { at, .. } => write!(f, "write {}", at.display()),
            Self::Remove(path) => write!(f, "remove {}", path.display()),
            Self::RemoveFolder(path) => write!(f, "remove folder {}", path.display()),
            Self::RemoveIfEmpty(path) => write!(f, "remove {}, if nothing is left in it", path.display()),
            Self::SetConfig { scope, key, value } => {
                write!(f, "git config {} {key} \"{}\"", scope.flag(), value.escape_debug())
            }
            Self::UnsetConfig { scope, key } => write!(f, "git config {} --unset {key}", scope.flag()),
            Self::RemoveSection { scope, section } => {
                write!(f, "git config {} --remove-section {section}", scope.flag())
            }
        }
    }
}

/// Carries out a plan. When a step fails, the earlier ones are taken back.
///
/// # Errors
/// [`InstallError::Step`] names the step, the cause, and whether everything could be taken back.
pub fn apply(plan: &Plan, git: &Git) -> Result<(), InstallError> {
    let mut done = Vec::new();
    for step in &plan.steps {
        match carry_out(step, git) {
            Ok(undo) => done.push(undo),
            Err(cause) => {
                let mut left = Vec::new();
                for undo in done.into_iter().rev() {
                    if let Err(error) = take_back(undo, git) {
                        left.push(error.to_string());
                    }
                }
                return Err(InstallError::Step { step: step.to_string(), source: Box::new(cause), left });
            }
        }
    }
    Ok(())
}

/// How to take a step back.
enum Undo {
    Nothing,
    RemoveFolder(PathBuf),
    CreateFolder(PathBuf),
    Move { from: PathBuf, to: PathBuf },
    Restore { at: PathBuf, before: Before },
    Config { scope: Scope, key: String, before: Option<String> },
    Entries { scope: Scope, entries: Vec<(String, String)> },
}

/// A file of ours before a step; foreign files are only ever moved.
enum Before {
    Nothing,
    Link(PathBuf),
    File { content: Vec<u8>, permissions: fs::Permissions },
}

fn carry_out(step: &Step, git: &Git) -> Result<Undo, InstallError> {
    match step {
        Step::CreateFolder(path) => {
            fs::create_dir(path).map_err(io_error("create the folder", path))?;
            Ok(Undo::RemoveFolder(path.clone()))
        }
        Step::Move { from, to } => {
            // A rename would replace what somebody put there since the plan was made.
            if to.symlink_metadata().is_ok() {
                return Err(InstallError::Occupied { path: to.clone() });
            }
            fs::rename(from, to).map_err(io_error("move", from))?;
            Ok(Undo::Move { from: to.clone(), to: from.clone() })
        }
        Step::Link { at, to } => {
            let before = remember(at)?;
            let temporary = temporary_beside(at);
            symlink(to, &temporary).map_err(io_error("link", at))?;
            settle(&temporary, at)?;
            Ok(Undo::Restore { at: at.clone(), before })
        }
        Step::Write { at, content, executable } => {
            let before = remember(at)?;
            write_new(at, content, *executable)?;
            Ok(Undo::Restore { at: at.clone(), before })
        }
        Step::Remove(path) => {
            let before = remember(path)?;
            fs::remove_file(path).map_err(io_error("remove", path))?;
            Ok(Undo::Restore { at: path.clone(), before })
        }
        Step::RemoveFolder(path) => {
            fs::remove_dir(path).map_err(io_error("remove the folder", path))?;
            Ok(Undo::CreateFolder(path.clone()))
        }
        Step::RemoveIfEmpty(path) => {
            if path.symlink_metadata().is_ok_and(|data| data.is_file() && data.len() == 0) {
                let before = remember(path)?;
                fs::remove_file(path).map_err(io_error("remove", path))?;
                return Ok(Undo::Restore { at: path.clone(), before });
            }
            Ok(Undo::Nothing)
        }
        Step::SetConfig { scope, key, value } => {
            let before = config_text(git, *scope, key)?;
            git.configure(*scope, [key, value])?;
            Ok(Undo::Config { scope: *scope, key: key.clone(), before })
        }
        Step::UnsetConfig { scope, key } => {
            let before = config_text(git, *scope, key)?;
            git.configure(*scope, ["--unset", key])?;
            Ok(Undo::Config { scope: *scope, key: key.clone(), before })
        }
        Step::RemoveSection { scope, section } => {
            let entries = git.config_entries(Some(*scope), &format!("{section}."))?;
            git.configure(*scope, ["--remove-section", section])?;
            Ok(Undo::Entries { scope: *scope, entries })
        }
    }
}

fn take_back(undo: Undo, git: &Git) -> Result<(), InstallError> {
    match undo {
        Undo::Nothing => Ok(()),
        Undo::RemoveFolder(path) => fs::remove_dir(&path).map_err(io_error("remove the folder", &path)),
        Undo::CreateFolder(path) => fs::create_dir(&path).map_err(io_error("create the folder", &path)),
        Undo::Move { from, to } => fs::rename(&from, &to).map_err(io_error("move back", &from)),
        Undo::Restore { at, before: Before::Nothing } => {
            fs::remove_file(&at).map_err(io_error("remove", &at))
        }
        Undo::Restore { at, before: Before::Link(to) } => {
            let temporary = temporary_beside(&at);
            symlink(&to, &temporary).map_err(io_error("link", &at))?;
            settle(&temporary, &at)
        }
        Undo::Restore { at, before: Before::File { content, permissions } } => {
            write_new(&at, &content, false)?;
            fs::set_permissions(&at, permissions).map_err(io_error("set the mode of", &at))
        }
        Undo::Config { scope, key, before: Some(value) } => git.configure(scope, [key, value]),
        Undo::Config { scope, key, before: None } => git.configure(scope, ["--unset", &key]),
        Undo::Entries { scope, entries } => {
            // The command comes first, as it was written: an event without one stops every Git command.
            entries.iter().try_for_each(|(key, value)| git.configure(scope, [key, value]))
        }
    }
}

fn remember(path: &Path) -> Result<Before, InstallError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Before::Nothing),
        Err(error) => Err(io_error("read", path)(error)),
        Ok(data) if data.is_symlink() => {
            fs::read_link(path).map(Before::Link).map_err(io_error("read", path))
        }
        Ok(data) => fs::read(path)
            .map(|content| Before::File { content, permissions: data.permissions() })
            .map_err(io_error("read", path)),
    }
}

fn config_text(git: &Git, scope: Scope, key: &str) -> Result<Option<String>, InstallError> {
    let value = git.config(Some(scope), false, key)?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

fn write_new(at: &Path, content: &[u8], executable: bool) -> Result<(), InstallError> {
    let temporary = temporary_beside(at);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(if executable { 0o755 } else { 0o644 });
    }
    #[cfg(not(unix))]
    let _ = executable;
    let written = options.open(&temporary).and_then(|mut file| file.write_all(content));
    if let Err(error) = written {
        // The first error is the one to report; what is left is one small temporary file.
        let _ = fs::remove_file(&temporary);
        return Err(io_error("write", at)(error));
    }
    settle(&temporary, at)
}

/// Renames into place, and leaves no temporary file behind where that fails.
fn settle(temporary: &Path, at: &Path) -> Result<(), InstallError> {
    fs::rename(temporary, at).map_err(|error| {
        let _ = fs::remove_file(temporary);
        io_error("replace", at)(error)
    })
}

fn temporary_beside(at: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(at.file_name().unwrap_or_default());
    name.push(format!(".gitops-agent-{}", std::process::id()));
    at.with_file_name(name)
}

#[cfg(unix)]
fn symlink(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}
