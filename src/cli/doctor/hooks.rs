//! Are the hooks in force here: what Git would really run, and whether that is this program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gitops_agent::install::{self, Git, HookReport, HookState};

use super::super::environment;
use super::{Findings, process, shown};

/// Oldest version of Git that the installer can ask.
const OLDEST_GIT: (u32, u32) = (2, 31);

/// Returns the program that the hooks here call, where it is there.
pub(super) fn look(git: &Git, found: &mut Findings) -> Option<PathBuf> {
    match git.version() {
        Ok(version) if version >= OLDEST_GIT => {
            found.ok("git", format!("version {}.{}", version.0, version.1))
        }
        Ok(version) => found.failed(
            "git",
            format!("version {}.{} cannot say where hooks lie", version.0, version.1),
            "install Git 2.31 or later",
        ),
        Err(error) => found.failed("git", error.to_string(), "install Git, or put it on PATH"),
    }
    if environment::switched_off() {
        found.warning(
            "switch",
            "GITOPS_AGENT=0 is set here: hooks of this shell do nothing",
            "unset GITOPS_AGENT",
        );
    }
    let report = match install::hook_report(git) {
        Ok(report) => report,
        Err(error) => {
            found.failed("hooks", error.to_string(), "mend what Git says, then `gitops-agent install`");
            return None;
        }
    };
    in_force(git, &report, found);
    let there: Vec<&PathBuf> = report.programs.iter().filter(|program| runs(program)).collect();
    for program in &report.programs {
        the_program(program, found);
    }
    if report.programs.is_empty() && report.state == HookState::Active {
        found.warning(
            "program",
            "the hooks look for gitops-agent on PATH, which a GUI may not have",
            "`gitops-agent install` writes the full path into them",
        );
    }
    there.first().map(|program| (*program).clone())
}

fn in_force(git: &Git, report: &HookReport, found: &mut Findings) {
    let path = install::hooks_path_origin(git).ok().flatten();
    match &report.reason {
        None if !report.configured.is_empty() => {
            found.ok("hooks", "Git runs them from the configuration, whatever core.hooksPath says");
        }
        None => found.ok("hooks", format!("Git runs them from {}", shown(&report.folder))),
        Some(reason) => found.failed("hooks", reason.clone(), "gitops-agent install"),
    }
    let Some((origin, value)) = path else { return };
    let tools_own = report.configured.is_empty() && Path::new(&value).is_relative();
    if tools_own {
        found.warning(
            "hooks-path",
            format!("core.hooksPath = {value} ({origin}): Git looks nowhere else, and the tool that keeps this folder may write it anew"),
            "`gitops-agent install` again whenever `gitops-agent status` says so, or the tool's own way in docs/ecosystem.md",
        );
    } else {
        found.ok("hooks-path", format!("core.hooksPath = {value} ({origin})"));
    }
}

fn runs(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    program.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Is what the hooks call this program?
fn the_program(program: &Path, found: &mut Findings) {
    if !runs(program) {
        let message = format!("the hooks call {}, which is gone: commits are not recorded", shown(program));
        return found.failed("program", message, "gitops-agent install");
    }
    let real = |path: &Path| path.canonicalize().ok();
    if std::env::current_exe().is_ok_and(|exe| real(&exe) == real(program)) {
        return found.ok("program", format!("the hooks call {}, this very program", shown(program)));
    }
    let mut command = Command::new(program);
    command.arg("--version");
    let version = process::within(command, Duration::from_secs(10))
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let own = super::super::version();
    match version {
        Some(version) if version == own => {
            found.ok("program", format!("the hooks call {}, of the same version", shown(program)));
        }
        Some(version) => found.warning(
            "program",
            format!("the hooks call {}, which is {version:?}; this is {own:?}", shown(program)),
            "`gitops-agent install` lets them call this one",
        ),
        None => found.failed(
            "program",
            format!("the hooks call {}, which does not run", shown(program)),
            "`gitops-agent install` lets them call this one",
        ),
    }
}
