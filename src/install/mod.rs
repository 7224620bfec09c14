//! The installer, as a guest in other people's repositories.
//!
//! Everything is planned first ([`plan_install`], [`plan_uninstall`]) as plain [`Step`]s, which
//! `--dry-run` prints and [`apply`] carries out, all of them or none. Three ways, and who gets which:
//!
//! | where | way |
//! |---|---|
//! | a repository | hook files in the folder that Git names, in each of its worktrees (`files`) |
//! | a repository whose hooks folder is a tool's or has other hooks in it, Git 2.54 and later | sections in the repository's configuration (`global`) |
//! | every repository, Git 2.54 and later | the same sections in the user's configuration |
//! | every repository, older Git | a global `core.hooksPath` to a folder that hands every hook on |
//!
//! Invariants:
//! * Only Git says where hooks lie; it is run, never guessed.
//! * What is not ours is moved as it is, and never written to, not even through a link.
//! * Installing twice is installing once.
//! * Uninstalling leaves contents, modes and links as they were, and leaves alone what somebody
//!   changed since, saying so.
//! * A hook never fails because of the agent: a program that is gone is silence. A hook file that is
//!   a link to a missing program does not exist for Git; the scripts look before they call.
//!
//! A bare repository gets `post-receive` as well, which records what is pushed to it.
//!
//! Limits: Git 2.31 or later (`rev-parse --path-format`). A worktree added after the installation to
//! a repository with a relative `core.hooksPath` has a hooks folder of its own and needs another run.

mod files;
mod git;
mod global;
mod plan;
mod shim;
mod state;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use git::{Git, Scope};
pub use plan::{Plan, Step, apply};
pub use shim::{ALL_HOOKS, HOOKS, SERVER_HOOK};
pub use state::{HookReport, HookState, hook_report, hooks_path_origin};

/// What to install into, or take out of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The repository in which [`Git::directory`] lies, with all its worktrees.
    Repository,
    /// Every repository of the user.
    Global {
        /// A folder of the agent's own for hooks, absolute; made and filled only on Git before 2.54.
        folder: PathBuf,
    },
}

/// Why an installation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Git could not be started.
    #[error("cannot run {} in {}: {source}; install Git, or put it on PATH", program.display(), directory.display())]
    NoGit {
        /// What was run.
        program: PathBuf,
        /// Where.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Git said no.
    #[error("git {command} failed: {message}")]
    Git {
        /// Its arguments.
        command: String,
        /// What it printed.
        message: String,
    },
    /// The folder is in no repository.
    #[error(
        "{} is not in a Git repository; go to one, name one with --repo, or cover all of them with --global",
        directory.display()
    )]
    NotARepository {
        /// The folder.
        directory: PathBuf,
    },
    /// The hooks folder is none, as with `core.hooksPath=/dev/null`, which switches hooks off.
    #[error(
        "the hooks folder {} is not a folder; see where it comes from with `git config --show-origin \
         core.hooksPath`",
        path.display()
    )]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// At a hook's path lies something else, such as a folder.
    #[error("{} is neither a file nor a link; move it away and try again", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Somebody put a file where a hook was about to be moved.
    #[error("{} appeared meanwhile; try again", path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// Git's configuration takes text only.
    #[error("the path {} is not UTF-8, and Git's configuration could not hold it; choose another", path.display())]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// A file could not be read or changed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A step failed, and the ones before it were taken back.
    #[error("{step}: {source}; {}", undone(left))]
    Step {
        /// The step, as `--dry-run` prints it.
        step: String,
        /// Why.
        source: Box<InstallError>,
        /// What could not be taken back; empty where everything is as before.
        left: Vec<String>,
    },
}

fn undone(left: &[String]) -> String {
    if left.is_empty() {
        "nothing was changed".to_owned()
    } else {
        format!("not everything could be taken back: {}", left.join("; "))
    }
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> InstallError + 'a {
    move |source| InstallError::Io { action, path: path.to_owned(), source }
}

/// Plans an installation. `exe` is the program that the hooks call: best the path by which the user
/// starts it, since that outlives an upgrade.
///
/// # Errors
/// Where Git cannot be asked, there is no repository, or the hooks folder cannot be used.
pub fn plan_install(git: &Git, target: &Target, exe: &Path) -> Result<Plan, InstallError> {
    let exe = &std::path::absolute(exe).map_err(io_error("find", exe))?;
    let mut plan = Plan::default();
    match target {
        Target::Global { folder } => global::plan_install(git, folder, exe, &mut plan)?,
        Target::Repository => plan_repository(git, exe, &mut plan)?,
    }
    Ok(plan)
}

fn plan_repository(git: &Git, exe: &Path, plan: &mut Plan) -> Result<(), InstallError> {
    let places = places(git)?;
    let configured = git.runs_configured_hooks()?;
    let bare = git.is_bare()?;
    if places.iter().all(|place| global::is_ours(&place.folder))
        || configured && global::is_configured(git, Some(Scope::Global))?
    {
        plan.notes.push("this repository is covered by the installation for all repositories".to_owned());
        if !bare {
            return Ok(());
        }
        // Whoever installs in a bare repository wants its pushes recorded, which the other one leaves alone.
        let hooks = &[SERVER_HOOK];
        if configured {
            return global::plan_configured(git, Scope::Local, hooks, exe, plan);
        }
        return files::plan_into(
            &own_folder(git)?,
            files::Way { exe, hooks, links: true, hide: false },
            plan,
        );
    }
    let hooks: &[&'static str] = if bare { &ALL_HOOKS } else { &HOOKS };
    let own = own_folder(git)?;
    let crowded = |place: &Place| {
        !files::any_of_ours(&place.folder)
            && (place.folder != own || files::any_foreign(&place.folder, hooks))
    };
    if configured && (global::is_configured(git, Some(Scope::Local))? || places.iter().any(crowded)) {
        return global::plan_configured(git, Scope::Local, hooks, exe, plan);
    }
    for place in &places {
        // A relative global path can lead back to our folder in one worktree only; leave it alone there.
        if global::is_ours(&place.folder) {
            continue;
        }
        place.describe(&own, plan);
        let hide = place.in_work_tree && !place.tracked;
        files::plan_into(&place.folder, files::Way { exe, hooks, links: place.folder == own, hide }, plan)?;
    }
    Ok(())
}

/// Plans the way back. A repository's installation and the user's are taken out separately.
///
/// # Errors
/// Where Git cannot be asked, there is no repository, or a folder cannot be read.
pub fn plan_uninstall(git: &Git, target: &Target) -> Result<Plan, InstallError> {
    let mut plan = Plan::default();
    match target {
        Target::Global { folder } => global::plan_uninstall(git, folder, &mut plan)?,
        Target::Repository => {
            let mut folders: Vec<_> = places(git)?.into_iter().map(|place| place.folder).collect();
            // Where it was before somebody set core.hooksPath.
            let own = real(&own_folder(git)?);
            if !folders.contains(&own) {
                folders.push(own);
            }
            for folder in folders {
                if global::is_ours(&folder) {
                    plan.notes.push(
                        "the installation for all repositories stays; `gitops-agent uninstall --global` removes it"
                            .to_owned(),
                    );
                } else {
                    files::plan_out_of(&folder, &mut plan)?;
                }
            }
            global::plan_configured_out(git, Scope::Local, &mut plan)?;
        }
    }
    Ok(plan)
}

/// A hooks folder that Git uses in some worktree.
struct Place {
    folder: PathBuf,
    in_work_tree: bool,
    tracked: bool,
}

impl Place {
    fn describe(&self, own: &Path, plan: &mut Plan) {
        let folder = self.folder.display();
        if self.tracked {
            plan.notes.push(format!(
                "{folder} is part of the repository: its hooks now show up as changed in `git status`; do not \
                 commit them, and run `gitops-agent install` again after a checkout that replaced them"
            ));
        } else if self.in_work_tree {
            plan.notes.push(format!(
                "{folder} is kept by a tool (Husky writes it anew on each `npm install`); run `gitops-agent \
                 install` again after that, for instance in the `prepare` script; `gitops-agent status` tells when"
            ));
        } else if self.folder != own {
            plan.notes.push(format!(
                "core.hooksPath leads to {folder}; every repository that uses this folder is covered with it"
            ));
        }
    }
}

/// The hooks folders of all worktrees, each once. A relative `core.hooksPath` is another folder in each.
fn places(git: &Git) -> Result<Vec<Place>, InstallError> {
    let mut places: Vec<Place> = Vec::new();
    let own = own_folder(git)?;
    for directory in git.worktrees()? {
        let git = git.at(&directory);
        let root = git.work_tree()?;
        // Inside a Git folder a relative path would resolve there, where Git runs no hook; the list of
        // worktrees has the right one. A bare repository has no other place.
        let folder = match (&root, places.is_empty()) {
            (None, false) => continue,
            _ => real(&git.hooks_folder()?),
        };
        if places.iter().any(|place| place.folder == folder) {
            continue;
        }
        let in_work_tree = folder != own
            && root.is_some_and(|root| folder.starts_with(fs::canonicalize(&root).unwrap_or(root)));
        let tracked = in_work_tree && git.tracks(&folder)?;
        places.push(Place { folder, in_work_tree, tracked });
    }
    Ok(places)
}

/// The repository's own hooks folder. Its last part is not followed: a link there leads to a folder
/// that somebody else keeps.
fn own_folder(git: &Git) -> Result<PathBuf, InstallError> {
    Ok(real(&git.common_folder()?).join("hooks"))
}

/// The real path, links followed as far as it exists.
fn real(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), ..) => path.to_owned(),
    }
}
