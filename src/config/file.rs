//! `config.toml`: strict, so that a misspelt key is an error and not a silence.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;

/// A settings file of this size is none.
const MAX_BYTES: u64 = 1024 * 1024;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) tenant: Option<String>,
    pub(super) class: Option<String>,
    pub(super) rules: Option<String>,
    pub(super) declarations: Option<String>,
    pub(super) retention_days: Option<i64>,
    pub(super) store: Store,
    pub(super) privacy: Privacy,
    pub(super) risk: Risk,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Store {
    pub(super) kind: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) database: Option<String>,
    pub(super) container: Option<String>,
    pub(super) credential: Option<String>,
    pub(super) budget_ru: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Privacy {
    pub(super) author: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Risk {
    pub(super) medium: Option<f64>,
    pub(super) high: Option<f64>,
}

/// Reads the file; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<(PathBuf, File)>, ConfigError> {
    let failed = |problem: String| ConfigError::File { path: path.to_owned(), problem };
    let text = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_BYTES => {
            return Err(failed("is larger than 1 MiB: this cannot be the settings file".to_owned()));
        }
        Ok(metadata) if !metadata.is_file() => return Err(failed("is no regular file".to_owned())),
        Ok(_) => std::fs::read_to_string(path)
            .map_err(|error| failed(format!("cannot be read: {error}; mend its permissions or content")))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // A home that cannot be entered holds no settings for us.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(failed(format!("cannot be read: {error}"))),
    };
    parse(path, &text).map(|file| Some((path.to_owned(), file)))
}

/// Reads the file's text; `path` is for the error alone.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    let failed = |problem: String| ConfigError::File { path: path.to_owned(), problem };
    toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        let number = 1 + before.matches('\n').count();
        // Not the whole line: somebody may have tried to put a key there.
        let name = text.lines().nth(number - 1).unwrap_or_default().split('=').next().unwrap_or_default();
        failed(format!("line {number} ({}): {}", name.trim(), error.message().trim_end()))
    })
}
