//! What can go wrong while reading a repository, each with what to do next.

use std::path::{Path, PathBuf};

/// An error of [`super::Repo`].
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no repository here.
    #[error(
        "{} is not inside a Git repository; name one with --repo DIR, or create it with `git init`",
        .path.display()
    )]
    NotARepository {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The repository belongs to another user, and Git's `safe.directory` does not list it.
    #[error(
        "the repository at {} belongs to another user; if you trust it: \
         git config --global --add safe.directory '{}'",
        .path.display(), .path.display()
    )]
    Owner {
        /// Where the repository is.
        path: PathBuf,
    },
    /// The repository uses something that libgit2 cannot read, such as the reftable format.
    #[error(
        "the repository at {} cannot be read: {reason}; a repository in the reftable format can be \
         converted with `git refs migrate --ref-format=files`",
        .path.display()
    )]
    Unsupported {
        /// Where the repository is.
        path: PathBuf,
        /// What is not supported.
        reason: String,
    },
    /// A revision does not name a commit.
    #[error("'{revision}' does not name a commit here ({reason}); see `git log --oneline --all`")]
    Revision {
        /// The revision as it was given.
        revision: String,
        /// What libgit2 says about it.
        reason: String,
    },
    /// A commit's own object is absent or damaged.
    #[error("commit {id} cannot be read ({reason}); `git fsck` tells more")]
    Commit {
        /// The commit, in hex.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else that libgit2 reports.
    #[error("Git repository: {doing}: {reason}; `git fsck` tells more")]
    Git {
        /// What was being done.
        doing: &'static str,
        /// What libgit2 says about it.
        reason: String,
    },
}

impl CaptureError {
    /// Sorts an error of opening a repository.
    pub(super) fn from_open(path: &Path, error: &git2::Error) -> Self {
        let path = path.to_owned();
        let reason = error.message().to_owned();
        match error.code() {
            git2::ErrorCode::NotFound => Self::NotARepository { path },
            git2::ErrorCode::Owner => Self::Owner { path },
            // libgit2 has no code of its own for these; its wording is stable since 1.0.
            _ if reason.starts_with("unsupported") || reason.starts_with("unknown object format") => {
                Self::Unsupported { path, reason }
            }
            _ => Self::Git { doing: "opening it", reason },
        }
    }

    /// For `map_err`, with what was being done.
    pub(super) fn git(doing: &'static str) -> impl FnOnce(git2::Error) -> Self {
        move |error| Self::Git { doing, reason: error.message().to_owned() }
    }
}
