//! `post-receive` in a bare repository: what is pushed there is recorded there, whoever made it, and no push
//! waits or fails because of it.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::path::PathBuf;

use world::{World, wait_for};

/// A world whose repository has no hooks and pushes to a bare one that has.
fn server() -> (World, PathBuf) {
    let world = World::new();
    world.commit("src/app.py", "print(1)\n", "First");
    let server = world.root().join("server.git");
    world.git(&["init", "-q", "--bare", "-b", "main", server.to_str().unwrap()]);
    world.ok(&["install", "--repo", server.to_str().unwrap()]);
    world.git(&["remote", "add", "origin", server.to_str().unwrap()]);
    (world, server)
}

#[test]
fn pushed_commits_are_recorded_once_with_the_branch_they_came_on() {
    let (world, _) = server();
    let first = world.git(&["rev-parse", "HEAD"]);
    let second = world.commit("src/app.py", "print(2)\n", "Second");
    world.git(&["push", "-q", "origin", "main"]);
    world.git(&["checkout", "-q", "-b", "feature/x"]);
    let third = world.commit("src/app.py", "print(3)\n", "Third");
    world.git(&["tag", "-a", "-m", "release", "v1"]);
    world.git(&["notes", "add", "-m", "a note, whose commit is nobody's"]);
    world.git(&["push", "-q", "origin", "feature/x", "v1", "refs/notes/commits"]);
    let records = wait_for(30, "delivery", || Some(world.records()).filter(|records| records.len() == 3));
    for (id, branch) in [(&first, "main"), (&second, "main"), (&third, "feature/x")] {
        let record = records.iter().find(|record| record["id"] == **id).unwrap();
        assert_eq!(record["source"], "post-receive");
        assert_eq!(record["repository"]["branch"], branch);
    }
    // Deleting and pushing again brings nothing new.
    world.git(&["push", "-q", "origin", ":feature/x"]);
    world.git(&["push", "-q", "origin", "feature/x"]);
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 3);
}

#[test]
fn a_large_push_is_noted_and_recorded_in_the_background() {
    let (world, _) = server();
    for number in 0..99 {
        world.commit("file", &format!("{number}\n"), "More");
    }
    let push =
        world.git_command(&["push", "-q", "origin", "main", "HEAD~50:refs/heads/half"]).output().unwrap();
    assert!(push.status.success() && push.stderr.is_empty(), "{push:?}");
    wait_for(60, "the rest", || (world.records().len() == 100).then_some(()));
}

#[test]
fn a_push_succeeds_whatever_state_the_agent_is_in() {
    let (world, server) = server();
    std::fs::write(world.home().join("config.toml"), "retention_days = 'never'\n").unwrap();
    let push = world.git_command(&["push", "-q", "origin", "main"]).output().unwrap();
    let message = String::from_utf8_lossy(&push.stderr).into_owned();
    assert!(push.status.success(), "{message}");
    assert_eq!(message.lines().filter(|line| !line.trim().is_empty()).count(), 1, "{message}");
    assert!(message.contains("noted"), "{message}");
    std::fs::remove_file(world.home().join("config.toml")).unwrap();
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 1);

    // Nonsense on standard input, and a repository that is switched off.
    let hook = server.join("hooks/post-receive");
    let mut child = std::process::Command::new(&hook)
        .current_dir(&server)
        .env("GITOPS_AGENT_HOME", world.home())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"zz zz refs/heads/main\n\n\xff\n").unwrap();
    assert!(child.wait().unwrap().success());
    world.git(&["-C", server.to_str().unwrap(), "config", "gitops-agent.enabled", "false"]);
    world.commit("file", "off\n", "Unrecorded");
    world.git(&["push", "-q", "origin", "main"]);
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 1);
}

#[test]
fn the_public_address_makes_it_the_same_repository() {
    let (world, server) = server();
    let clone = world.git(&["rev-parse", "HEAD"]);
    world.git(&["push", "-q", "origin", "main"]);
    wait_for(30, "delivery", || (world.records().len() == 1).then_some(()));
    let address = "https://forge.example/team/project.git";
    world.git(&["-C", server.to_str().unwrap(), "config", "remote.origin.url", address]);
    world.commit("src/app.py", "print(2)\n", "Second");
    world.git(&["push", "-q", "origin", "main"]);
    let records = wait_for(30, "delivery", || Some(world.records()).filter(|records| records.len() == 2));
    let second = records.iter().find(|record| record["id"] != *clone).unwrap();
    world.git(&["remote", "set-url", "origin", address]);
    assert_eq!(world.json(&["explain", "--json"])["repository"]["id"], second["repository"]["id"]);
}
