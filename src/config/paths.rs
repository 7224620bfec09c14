//! Where the agent's own files live.

use std::path::{Path, PathBuf};

/// The agent's folders: where the platform puts them, or all under one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    config: PathBuf,
    data: PathBuf,
}

impl Paths {
    /// Everything under `root` (`GITOPS_AGENT_HOME`), else the platform's folders; `None` where the user
    /// has no home.
    #[must_use]
    pub fn find(root: Option<&Path>) -> Option<Self> {
        if let Some(root) = root {
            return Some(Self { config: root.to_owned(), data: root.to_owned() });
        }
        let folders = directories::ProjectDirs::from("", "", "gitops-agent")?;
        Some(Self { config: folders.config_dir().to_owned(), data: folders.data_local_dir().to_owned() })
    }

    /// `config.toml`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The folder of outbox, local store, spool and locks.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }
}
