//! What somebody put into the places that the agent reads: links, pipes, devices, huge and hostile files, spool files that name
//! a store of their own. Nothing is followed, nothing hangs, nothing is sent there.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod world;

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use world::World;

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The hook's silence is not asked for here, only that it lets the commit go.
fn commits_at_once(world: &World, what: &str) -> String {
    let start = Instant::now();
    let id = world.commit("a.txt", &format!("{what} {:?}\n", Instant::now()), "One");
    assert!(start.elapsed() < gitops_agent::time_limit::HOOK, "{what}: {:?}", start.elapsed());
    id
}

#[test]
fn a_link_or_pipe_in_the_git_folder_is_not_followed() {
    let world = World::new();
    world.ok(&["install"]);
    let own = world.repo().join(".git/gitops-agent");
    let _ = std::fs::remove_dir_all(&own);
    let elsewhere = world.root().join("elsewhere");
    std::fs::write(&elsewhere, "mine\n").unwrap();
    // The folder itself.
    let folder = world.root().join("folder");
    std::fs::create_dir(&folder).unwrap();
    symlink(&folder, &own).unwrap();
    commits_at_once(&world, "folder");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    // Its files.
    std::fs::remove_file(&own).unwrap();
    std::fs::create_dir(&own).unwrap();
    for name in ["repository-id", "class.json", "passed-over"] {
        symlink(&elsewhere, own.join(name)).unwrap();
    }
    commits_at_once(&world, "links");
    world.git(&["config", "gitops-agent.enabled", "false"]);
    commits_at_once(&world, "passed over");
    world.git(&["config", "--unset", "gitops-agent.enabled"]);
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "mine\n");
    let id = own.join("repository-id");
    assert!(std::fs::symlink_metadata(&id).unwrap().is_file(), "it took the link's place");
    assert_eq!(std::fs::metadata(&id).unwrap().permissions().mode() & 0o777, 0o600);
    for name in ["repository-id", "class.json", "passed-over"] {
        std::fs::remove_file(own.join(name)).unwrap();
        pipe(&own.join(name));
    }
    commits_at_once(&world, "pipes");
    for name in ["repository-id", "class.json"] {
        std::fs::remove_file(own.join(name)).unwrap();
        symlink("/dev/zero", own.join(name)).unwrap();
    }
    commits_at_once(&world, "devices");
    world.ok(&["flush"]);
    // What could not be written down as passed over is found, as if the agent had been on.
    assert_eq!(world.records().len(), 5);
}

#[test]
fn settings_and_rules_that_hang_or_explode_do_not_hold_the_commit() {
    let mut world = World::new();
    world.ok(&["install"]);
    let settings = world.home().join("config.toml");
    pipe(&settings);
    commits_at_once(&world, "settings: a pipe");
    std::fs::remove_file(&settings).unwrap();
    for (what, text) in [
        ("deep tables", format!("a{} = 1", ".a".repeat(200_000))),
        ("deep arrays", format!("tenant = {}", "[".repeat(900_000))),
        ("deep inline tables", format!("tenant = {}", "{a = ".repeat(200_000))),
    ] {
        std::fs::write(&settings, text).unwrap();
        commits_at_once(&world, what);
        std::fs::remove_file(&settings).unwrap();
    }
    std::fs::File::create(&settings).unwrap().set_len(1 << 30).unwrap();
    commits_at_once(&world, "settings: 1 GB");
    std::fs::remove_file(&settings).unwrap();

    let pack = world.root().join("rules/mine");
    std::fs::create_dir_all(&pack).unwrap();
    world.set("GITOPS_AGENT_RULES", world.root().join("rules").to_str().unwrap());
    pipe(&pack.join("pack.toml"));
    commits_at_once(&world, "rules: a pipe");
    std::fs::remove_file(pack.join("pack.toml")).unwrap();
    std::fs::File::create(pack.join("pack.toml")).unwrap().set_len(1 << 30).unwrap();
    commits_at_once(&world, "rules: 1 GB");
    let rule = |pattern: &str| {
        let head = "[pack]\nid = \"mine\"\nversion = \"1.0.0\"\nformat = 1\nmin_tool = \"0.1.0\"\nas_of = \"2026-01-01\"\nlicence = \"MIT\"\n\
            [[citation]]\nid = \"c\"\ntitle = \"t\"\n[[rule]]\nid = \"mine.x\"\nversion = 1\nstatus = \"stable\"\ntitle = \"t\"\nwhy = \"w\"\nask = \"a\"\n\
            tags = { HIPAA = [\"c\"] }\nseverity = \"high\"\nweight = 40\nkeywords = [\"one\"]\n";
        format!("{head}[rule.sel.a]\nadded = ['{pattern}']\n[rule.when]\nall = [\"a\"]\n")
    };
    for pattern in
        ["(one{1000}){1000}", "(((one{50}){50}){50}){50}", r"\w{500}\pL{500}one", "(one|one|one)*$"]
    {
        std::fs::write(pack.join("pack.toml"), rule(pattern)).unwrap();
        commits_at_once(&world, pattern);
    }
    world.unset("GITOPS_AGENT_RULES");
    world.ok(&["flush"]);
    assert_eq!(world.records().len(), 11);
    world.ok(&["verify"]);
}

/// A world in whose repository a spool file or note lies that names another store, which listens.
fn with_a_strange_store(broken: bool) -> (World, TcpListener, PathBuf) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut world = World::with_cosmos(&endpoint, "evil");
    let (home, blocked) = (world.home(), world.root().join("blocked"));
    std::fs::write(&blocked, "").unwrap();
    world.set("GITOPS_AGENT_HOME", blocked.to_str().unwrap());
    if broken {
        world.set("GITOPS_AGENT_CLASS", "nonsense");
    }
    world.commit("a.txt", "a\n", "One");
    world.output(&["hook", "post-commit"]);
    for name in ["COSMOS_ENDPOINT", "GITOPS_AGENT_TENANT", "GITOPS_AGENT_CLASS"] {
        world.unset(name);
    }
    world.set("GITOPS_AGENT_HOME", home.to_str().unwrap());
    let spool = world.repo().join(".git/gitops-agent/spool");
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 1);
    (world, listener, spool)
}

fn nobody_called(listener: &TcpListener) {
    std::thread::sleep(Duration::from_millis(200));
    assert!(listener.accept().is_err(), "the strange store was called");
}

#[test]
fn a_planted_spool_file_sends_nothing_to_a_store_of_its_own() {
    let (mut world, listener, _) = with_a_strange_store(false);
    let (code, said) = world.fails(&["flush"]);
    assert_eq!(code, 4, "{said}");
    let listed = world.ok(&["outbox", "list"]);
    assert!(listed.contains("held"), "{listed}");
    nobody_called(&listener);
    // Whoever has that store set trusts it.
    world.set("COSMOS_ENDPOINT", &format!("http://{}", listener.local_addr().unwrap()));
    world.set("GITOPS_AGENT_TENANT", "evil");
    world.ok(&["outbox", "retry"]);
    let mut flush = world.agent(&["flush", "--timeout", "20"]).spawn().unwrap();
    world::wait_for(15, "a call", || listener.accept().ok());
    flush.kill().unwrap();
    flush.wait().unwrap();
}

#[test]
fn a_planted_note_sends_nothing_to_a_store_of_its_own() {
    let (world, listener, spool) = with_a_strange_store(true);
    let output = world.output(&["flush"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("names a store that neither"), "{said}");
    nobody_called(&listener);
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 1, "a person can see it");
}

#[test]
fn a_spool_that_others_may_write_to_is_left_alone() {
    let mut world = World::new();
    let (home, blocked) = (world.home(), world.root().join("blocked"));
    std::fs::write(&blocked, "").unwrap();
    world.set("GITOPS_AGENT_HOME", blocked.to_str().unwrap());
    world.commit("a.txt", "a\n", "One");
    world.output(&["hook", "post-commit"]);
    world.set("GITOPS_AGENT_HOME", home.to_str().unwrap());
    let spool = world.repo().join(".git/gitops-agent/spool");
    let file = std::fs::read_dir(&spool).unwrap().next().unwrap().unwrap().path();
    for (place, loose, tight) in [(&spool, 0o777, 0o700), (&file, 0o666, 0o600)] {
        let mode = |mode| std::fs::set_permissions(place, PermissionsExt::from_mode(mode)).unwrap();
        mode(loose);
        let output = world.output(&["flush"]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("may write to it"), "{said}");
        assert!(file.exists());
        mode(tight);
    }
    world.ok(&["flush"]);
    assert!(!file.exists());
    assert_eq!(world.records().len(), 1);
}
