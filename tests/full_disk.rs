//! A full disk below the agent's home, made with a small tmpfs in a mount namespace of its own: no commit
//! fails, and each is recorded once there is room again.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::print_stderr, reason = "a test that cannot run here says so")]

mod world;

use std::process::{Command, Stdio};

use world::World;

/// The test's script, in a user and mount namespace of its own where nobody else sees the tmpfs.
const SCRIPT: &str = r#"
set -eu
mount -t tmpfs -o size=600k tmpfs "$GITOPS_AGENT_HOME"
commit() {
    GIT_AUTHOR_DATE="$1 +0000" GIT_COMMITTER_DATE="$1 +0000" git commit -q --allow-empty -m "$2" 2>>"$ERRORS"
}
commit 1700000001 one
"$AGENT" flush >/dev/null
# Fills the rest; dd ends with "no space left".
dd if=/dev/zero of="$GITOPS_AGENT_HOME/filler" bs=1k count=2000 2>/dev/null || true
commit 1700000002 two
commit 1700000003 three
code=0; "$AGENT" flush >"$OUT" 2>&1 || code=$?
echo "full: $code" >>"$OUT"
rm "$GITOPS_AGENT_HOME/filler"
"$AGENT" flush >/dev/null
"$AGENT" verify
"$AGENT" query --format ndjson | wc -l
"#;

#[test]
fn a_full_home_costs_no_commit_and_loses_none() {
    let mut world = World::new();
    world.ok(&["install"]);
    let (errors, out) = (world.root().join("errors"), world.root().join("out"));
    world.set("AGENT", world::agent());
    world.set("ERRORS", errors.to_str().unwrap());
    world.set("OUT", out.to_str().unwrap());
    let allowed = Command::new("unshare").args(["-Urm", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        // A container may forbid namespaces; the file-size limit below is tried everywhere.
        eprintln!("skipped: no mount namespaces here");
        return;
    }
    let mut git = world.git_command(&["version"]);
    let environment: Vec<_> =
        git.get_envs().map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_owned())).collect();
    git.output().unwrap();
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", SCRIPT])
        .env_clear()
        .envs(environment)
        .current_dir(world.repo())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let full = std::fs::read_to_string(&out).unwrap_or_default();
    assert!(output.status.success(), "{said}{full}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().last().unwrap().trim(), "3", "{said}");
    // It could not be delivered, or only in part, and said so.
    assert!(full.contains("full: 5") || full.contains("full: 3"), "{full}");
    let errors = std::fs::read_to_string(errors).unwrap();
    assert_eq!(errors, "", "the repository's own Git folder had room");
}

/// Every write of the hook beyond 0 bytes fails, wherever it goes: nothing can be kept, the commit stands, and
/// history is what finds it.
#[test]
fn where_no_file_can_grow_the_commit_stands_and_backfill_finds_it() {
    let world = World::new();
    world.ok(&["install"]);
    let hook = world.repo().join(".git/hooks/post-commit");
    let real = world.repo().join(".git/real-post-commit");
    std::fs::rename(&hook, &real).unwrap();
    // EFBIG instead of the signal, as on a disk whose quota is used up.
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nulimit -f 0\nexec {} hook post-commit\n", world::agent());
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = world.git_command(&["commit", "-q", "--allow-empty", "-m", "One"]).output().unwrap();
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("gitops-agent: "), "{stderr}");
    let left = std::fs::read_dir(world.home().join("spool"))
        .map_or(0, |files| files.flatten().filter(|file| file.path().is_file()).count());
    assert_eq!(left, 0, "what was not acknowledged is not left half written");
    std::fs::rename(&real, &hook).unwrap();
    world.ok(&["backfill"]);
    assert_eq!(world.records().len(), 1);
}
