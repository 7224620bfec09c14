//! Which repository a commit was recorded in: an id that is the same for every clone of it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::redact::redact;
use crate::hex::hex;

/// A repository as a record names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Repository {
    /// SHA-256 of the normalised remote, else of the root commits; lower-case hex. Empty where there is
    /// neither, before the first commit.
    pub id: String,
    /// Last part of the remote, else of the folder.
    pub name: String,
    /// The remote without user and password; absent for a remote that is a folder of one machine.
    pub remote: Option<String>,
    /// Branch at the time of the commit; absent when detached and in backfill.
    pub branch: Option<String>,
}

impl Repository {
    /// Names a repository.
    ///
    /// Where there is no remote that others share, `origin` is asked for the id that is known already or
    /// else for the root commits, and `folder` (the working folder's name) is the name.
    #[must_use]
    pub fn new(
        remote: Option<&str>,
        origin: impl FnOnce() -> Result<String, Vec<String>>,
        folder: &str,
        branch: Option<&str>,
    ) -> Self {
        let shared = remote.and_then(normalise);
        let id = match &shared {
            Some(url) => sha256(url.as_bytes()),
            None => origin().unwrap_or_else(|mut roots| {
                roots.sort();
                match (roots.is_empty(), remote) {
                    (false, _) => sha256(roots.join("\n").as_bytes()),
                    // A shallow clone of a folder: that folder is all that is known.
                    (true, Some(folder)) => sha256(folder.as_bytes()),
                    (true, None) => String::new(),
                }
            }),
        };
        let name = shared
            .as_deref()
            .and_then(|url| url.rsplit('/').next())
            .filter(|name| !name.is_empty())
            .unwrap_or(folder);
        Self {
            id,
            name: limited(&redact(name)),
            remote: remote.filter(|_| shared.is_some()).map(|url| limited(&redact(&without_user(url)))),
            branch: None,
        }
        .on(branch)
    }

    /// The same repository on another branch.
    #[must_use]
    pub fn on(self, branch: Option<&str>) -> Self {
        Self { branch: branch.map(|branch| limited(&redact(branch))), ..self }
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Cuts a name or reference at 1 KiB.
pub(super) fn limited(text: &str) -> String {
    text[..text.floor_char_boundary(1024)].to_owned()
}

/// The remote as configured, but without user, password and query.
fn without_user(remote: &str) -> String {
    let remote = remote.trim().split(['?', '#']).next().unwrap_or("");
    match remote.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}/{path}")
        }
        None => {
            let (host, path) = remote.split_once(':').unwrap_or((remote, ""));
            format!("{}:{path}", host.rsplit('@').next().unwrap_or(host))
        }
    }
}

/// `host/path` of a remote: scheme, user, password, default port, `.git`, query and trailing slashes are
/// dropped and the host is lower-cased, so that https and ssh clones of one repository agree. `None` for a
/// path on this machine, which says nothing elsewhere.
fn normalise(remote: &str) -> Option<String> {
    let remote = remote.trim();
    let (host, path) = if let Some((scheme, rest)) = remote.split_once("://") {
        if scheme.eq_ignore_ascii_case("file") {
            return None;
        }
        rest.split_once('/').unwrap_or((rest, ""))
    } else {
        // scp-like `user@host:path`; a colon after a slash, or after a drive letter, is a local path.
        let (host, path) = remote.split_once(':')?;
        if host.contains(['/', '\\']) || host.len() < 2 {
            return None;
        }
        (host, path)
    };
    let host = host.rsplit('@').next().unwrap_or(host).to_ascii_lowercase();
    let host =
        [":22", ":80", ":443", ":9418"].iter().find_map(|port| host.strip_suffix(port)).unwrap_or(&host);
    let path = path.split(['?', '#']).next().unwrap_or("");
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    (!host.is_empty()).then(|| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repository_has_one_id_however_it_was_cloned() {
        for remote in [
            "https://github.com/acme/records.git",
            "https://user:secret@GitHub.com/acme/records",
            "ssh://git@github.com:22/acme/records.git/",
            "git@github.com:acme/records.git",
        ] {
            assert_eq!(normalise(remote).as_deref(), Some("github.com/acme/records"), "{remote}");
        }
    }

    #[test]
    fn the_remote_is_shown_without_user_password_and_query() {
        for (remote, shown) in [
            ("https://user:s3cret@host.example/a/b.git?token=x", "https://host.example/a/b.git"),
            ("git@host.example:a/b.git", "host.example:a/b.git"),
            ("ssh://git@host.example:2222/a/b", "ssh://host.example:2222/a/b"),
        ] {
            assert_eq!(without_user(remote), shown);
        }
    }

    #[test]
    fn a_folder_is_no_remote() {
        for remote in ["/srv/git/records.git", "../records", "file:///srv/records", "C:\\git\\records"] {
            assert_eq!(normalise(remote), None, "{remote}");
        }
    }

    #[test]
    fn without_a_remote_the_root_commits_decide_in_any_order() {
        let one = Repository::new(None, || Err(vec!["b".into(), "a".into()]), "records", Some("main"));
        let two = Repository::new(Some("/x"), || Err(vec!["a".into(), "b".into()]), "clone", None);
        assert_eq!(one.id, two.id);
        assert_eq!(one.name, "records");
        assert_eq!(one.remote, None);
    }
}
