//! Reads `gitops-agent.*` from Git's configuration.
//!
//! Files count that Git itself reads: system, XDG, global, local and worktree, with `include` and
//! `includeIf` (`gitdir:`, `gitdir/i:`, `onbranch:`; libgit2 does not know `hasconfig:`). `git -c` and
//! `GIT_CONFIG_COUNT` do not count: libgit2 does not see them.

use git2::ConfigLevel;

use super::{CaptureError, Repo};

/// One entry of Git's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSetting {
    /// The whole key as `git config --list` prints it, such as `gitops-agent.tenant`.
    pub key: String,
    /// Its value; `true` for a key without one, as Git takes it.
    pub value: String,
    /// Where it comes from, such as `git config (global)` or `git config (local, included)`.
    pub origin: String,
}

impl Repo {
    /// All `gitops-agent.*` entries, the more specific file later: of one key the last entry counts.
    ///
    /// # Errors
    /// A configuration file that Git could not read either.
    pub fn settings(&self) -> Result<Vec<GitSetting>, CaptureError> {
        let reading = "reading its configuration";
        let config = self.inner.config().map_err(CaptureError::git(reading))?;
        // All of them: the library would compile an expression to choose, and try it on each.
        let entries = config.entries(None).map_err(CaptureError::git(reading))?;
        let mut found: Vec<(ConfigLevel, GitSetting)> = Vec::new();
        entries
            .for_each(|entry| {
                if !entry.name_bytes().starts_with(b"gitops-agent.") {
                    return;
                }
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let value = if entry.has_value() { text(entry.value_bytes()) } else { "true".to_owned() };
                let included = if entry.include_depth() > 0 { ", included" } else { "" };
                let origin = format!("git config ({}{included})", level_name(entry.level()));
                found.push((entry.level(), GitSetting { key: text(entry.name_bytes()), value, origin }));
            })
            .map_err(CaptureError::git(reading))?;
        // Stable: within one file the order of its lines stays.
        found.sort_by_key(|(level, _)| rank(*level));
        Ok(found.into_iter().map(|(_, setting)| setting).collect())
    }
}

fn level_name(level: ConfigLevel) -> &'static str {
    match level {
        ConfigLevel::ProgramData | ConfigLevel::System => "system",
        ConfigLevel::XDG | ConfigLevel::Global => "global",
        ConfigLevel::Worktree => "worktree",
        _ => "local",
    }
}

fn rank(level: ConfigLevel) -> u8 {
    match level {
        ConfigLevel::ProgramData => 0,
        ConfigLevel::System => 1,
        ConfigLevel::XDG => 2,
        ConfigLevel::Global => 3,
        ConfigLevel::Local => 4,
        ConfigLevel::Worktree => 5,
        _ => 6,
    }
}
