//! Whether the hooks are in force here: what Git would really run, not what lies around.

use std::path::{Path, PathBuf};

use super::files::{self, Found};
use super::git::{Git, Scope};
use super::shim::HOOKS;
use super::{InstallError, global};

/// The contract's three words for `status` and `doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookState {
    /// Git runs our hooks here.
    Active,
    /// They are not installed, not all of them, or their program is gone.
    Missing,
    /// They are installed, but Git looks elsewhere.
    Shadowed,
}

impl HookState {
    /// As in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Missing => "missing",
            Self::Shadowed => "shadowed",
        }
    }
}

/// The state and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookReport {
    /// [`HookState::Active`] only where all of [`HOOKS`] are in force.
    pub state: HookState,
    /// The folder in which Git looks for hooks here.
    pub folder: PathBuf,
    /// Those of [`HOOKS`] that are not in force.
    pub missing: Vec<&'static str>,
    /// Why the state is not active, with the command that mends it; one line.
    pub reason: Option<String>,
}

/// Looks at the worktree of [`Git::directory`]. Three to five questions to Git, about 8 ms.
///
/// # Errors
/// Where Git cannot be asked, or there is no repository.
pub fn hook_report(git: &Git) -> Result<HookReport, InstallError> {
    let folder = git.hooks_folder()?;
    let configured = configured_hooks(git)?;
    let mut missing = Vec::new();
    let mut gone = None;
    for name in HOOKS {
        if configured.iter().any(|hook| hook == name) {
            continue;
        }
        match program_of(&folder.join(name)) {
            Some(program) if runs(&program) => {}
            other => {
                missing.push(name);
                gone = gone.or(other);
            }
        }
    }
    if missing.is_empty() {
        return Ok(HookReport { state: HookState::Active, folder, missing, reason: None });
    }
    let elsewhere =
        if missing.len() < HOOKS.len() || gone.is_some() { None } else { elsewhere(git, &folder)? };
    let (state, reason) = match (elsewhere, gone) {
        (Some(place), _) => (
            HookState::Shadowed,
            format!(
                "the hooks lie in {}, but core.hooksPath makes Git look into {}; run `gitops-agent install` here",
                place.display(),
                folder.display()
            ),
        ),
        (None, Some(program)) => (
            HookState::Missing,
            format!(
                "the hooks call {}, which is not there; install the agent again, then run `gitops-agent install`",
                program.display()
            ),
        ),
        (None, None) => (
            HookState::Missing,
            format!("not installed here: {}; run `gitops-agent install`", missing.join(", ")),
        ),
    };
    Ok(HookReport { state, folder, missing, reason: Some(reason) })
}

/// The program that a hook of ours calls, where Git would run the hook; also one that is gone.
fn program_of(hook: &Path) -> Option<PathBuf> {
    match files::inspect(hook) {
        Ok(Found::Link(program)) => Some(program),
        Ok(Found::Script { agent, .. } | Found::Changed { agent }) if files::is_active(hook) => Some(agent),
        _ => None,
    }
}

/// An empty path leaves the search to PATH, which is the hook's and cannot be known here.
fn runs(program: &Path) -> bool {
    program.as_os_str().is_empty() || files::is_active(program)
}

/// The hooks that the configuration names and this Git runs.
fn configured_hooks(git: &Git) -> Result<Vec<String>, InstallError> {
    let entries = git.config_entries(None, "hook.gitops-agent-")?;
    if entries.is_empty() || !git.runs_configured_hooks()? {
        return Ok(Vec::new());
    }
    let off = |section: &str| {
        entries.iter().rfind(|(key, _)| key.strip_prefix(section) == Some(".enabled")).is_some_and(
            |(_, value)| matches!(value.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "0"),
        )
    };
    Ok(entries
        .iter()
        .filter(|(key, _)| key.strip_suffix(".event").is_some_and(|section| !off(section)))
        .map(|(_, event)| event.clone())
        .collect())
}

/// Another folder with hooks of ours: the repository's own, or that of the global installation.
fn elsewhere(git: &Git, folder: &Path) -> Result<Option<PathBuf>, InstallError> {
    let own = super::own_folder(git)?;
    let global =
        git.config(Some(Scope::Global), true, "core.hooksPath")?.map(|path| super::git::to_path(&path));
    let places = std::iter::once(own).chain(global);
    Ok(places.into_iter().find(|place| {
        super::real(place) != super::real(folder) && (global::is_ours(place) || files::any_of_ours(place))
    }))
}
