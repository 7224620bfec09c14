//! Whether the hooks are in force here: what Git would really run, not what lies around.

use std::path::{Path, PathBuf};

use super::files::{self, Found};
use super::git::{Git, Scope};
use super::shim::{ALL_HOOKS, HOOKS, SERVER_HOOK};
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
    /// [`HookState::Active`] only where all hooks are in force: [`HOOKS`], in a bare repository [`ALL_HOOKS`].
    pub state: HookState,
    /// The folder in which Git looks for hooks here.
    pub folder: PathBuf,
    /// Those that are not in force.
    pub missing: Vec<&'static str>,
    /// Those that the configuration names and this Git runs from there.
    pub configured: Vec<&'static str>,
    /// The programs that the hooks call, each once, also those that are gone. Empty paths, which leave the
    /// search to PATH, are left out.
    pub programs: Vec<PathBuf>,
    /// Why the state is not active, with the command that mends it; one line.
    pub reason: Option<String>,
}

/// Looks at the worktree of [`Git::directory`]. Three to six questions to Git, about 8 ms.
///
/// # Errors
/// Where Git cannot be asked, or there is no repository.
pub fn hook_report(git: &Git) -> Result<HookReport, InstallError> {
    let folder = git.hooks_folder()?;
    let wanted: &[&'static str] = if git.is_bare()? { &ALL_HOOKS } else { &HOOKS };
    let named = Configured::read(git)?;
    let mut report = HookReport {
        state: HookState::Active,
        folder,
        missing: Vec::new(),
        configured: Vec::new(),
        programs: Vec::new(),
        reason: None,
    };
    let (mut gone, mut asleep, mut off) = (None, None, None);
    for &name in wanted {
        // Our folder for all repositories only hands this one on.
        let file = if name == SERVER_HOOK && global::is_ours(&report.folder) {
            super::own_folder(git)?.join(name)
        } else {
            report.folder.join(name)
        };
        let in_file = program_of(&file);
        let in_configuration = named.program(name);
        for program in [&in_file, &in_configuration].into_iter().flatten() {
            if !program.as_os_str().is_empty() && !report.programs.contains(program) {
                report.programs.push(program.clone());
            }
        }
        if in_configuration.as_deref().is_some_and(runs) {
            report.configured.push(name);
        } else if !in_file.as_deref().is_some_and(runs) {
            report.missing.push(name);
            gone = gone.or(in_file).or(in_configuration);
            asleep = asleep.or_else(|| sleeps(&file).then_some(file));
            off = off.or_else(|| named.switched_off(name));
        }
    }
    if report.missing.is_empty() {
        return Ok(report);
    }
    let nowhere = report.missing.len() == wanted.len() && gone.is_none() && asleep.is_none() && off.is_none();
    let elsewhere = if nowhere { elsewhere(git, &report.folder)? } else { None };
    report.state = if elsewhere.is_some() { HookState::Shadowed } else { HookState::Missing };
    report.reason = Some(match (elsewhere, gone, asleep, off) {
        (Some(place), ..) => format!(
            "the hooks lie in {}, but core.hooksPath makes Git look into {}; run `gitops-agent install` here",
            place.display(),
            report.folder.display()
        ),
        (None, Some(program), ..) => format!(
            "the hooks call {}, which is not there; install the agent again, then run `gitops-agent install`",
            program.display()
        ),
        (None, None, Some(file), _) => format!(
            "{} is not executable, and Git passes it over; run `gitops-agent install`",
            file.display()
        ),
        (None, None, None, Some(key)) => format!("{key} is false; `git config --unset {key}` switches it on"),
        (None, None, None, None) => {
            format!("not installed here: {}; run `gitops-agent install`", report.missing.join(", "))
        }
    });
    Ok(report)
}

/// Where `core.hooksPath` is set, as Git names it (`file:.git/config`), and its value; `None` where it is not.
///
/// # Errors
/// Where Git cannot be asked.
pub fn hooks_path_origin(git: &Git) -> Result<Option<(String, String)>, InstallError> {
    git.config_origin("core.hooksPath")
}

/// The program that a hook of ours calls, where Git would run the hook; also one that is gone.
fn program_of(hook: &Path) -> Option<PathBuf> {
    match files::inspect(hook) {
        Ok(Found::Link(program)) => Some(program),
        Ok(Found::Script { agent, .. } | Found::Changed { agent }) if files::is_active(hook) => Some(agent),
        Ok(Found::Foreign { .. }) => files::legacy_program(hook),
        _ => None,
    }
}

/// Whether this is a script of ours that Git does not run, for want of the right to.
fn sleeps(hook: &Path) -> bool {
    matches!(files::inspect(hook), Ok(Found::Script { .. } | Found::Changed { .. }))
        && !files::is_active(hook)
}

/// An empty path leaves the search to PATH, which is the hook's and cannot be known here.
fn runs(program: &Path) -> bool {
    program.as_os_str().is_empty() || files::is_active(program)
}

/// What the configuration says about hooks, as far as this Git reads it.
struct Configured {
    entries: Vec<(String, String)>,
}

impl Configured {
    fn read(git: &Git) -> Result<Self, InstallError> {
        let mut entries = git.config_entries(None, "hook.")?;
        let ours = entries.iter().any(|(key, _)| key.starts_with("hook.gitops-agent-"));
        if ours && !git.runs_configured_hooks()? {
            entries.clear();
        }
        Ok(Self { entries })
    }

    /// The program that Git calls for this hook, by way of the configuration.
    fn program(&self, hook: &str) -> Option<PathBuf> {
        if self.switched_off(hook).is_some() {
            return None;
        }
        // An empty value takes back the events before it.
        let event = format!("hook.gitops-agent-{hook}.event");
        let events = self.entries.iter().filter(|(key, _)| *key == event).map(|(_, value)| value);
        let listening = events.fold(false, |on, value| !value.is_empty() && (on || value == hook));
        let command = self.last(&format!("hook.gitops-agent-{hook}.command"))?;
        listening.then(|| global::program_of(command).unwrap_or_default())
    }

    /// The key that switches this hook off, where it has one of ours: our own, or the event's.
    fn switched_off(&self, hook: &str) -> Option<String> {
        self.last(&format!("hook.gitops-agent-{hook}.command"))?;
        [format!("hook.gitops-agent-{hook}.enabled"), format!("hook.{hook}.enabled")].into_iter().find(
            |key| {
                self.last(key).is_some_and(|value| {
                    matches!(value.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "0")
                })
            },
        )
    }

    fn last(&self, key: &str) -> Option<&str> {
        self.entries.iter().rfind(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }
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
