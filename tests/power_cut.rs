//! A power cut, again and again: the agent's home lies on a loop device, and while commits are made and delivered the
//! device's bytes are copied. What had not been synced is not in the copy, as it would not be on a disk. The agent goes on
//! upon the copy: what a hook had acknowledged must be there, and in the end every commit once in the store.
//!
//! Mounting needs root and loop devices; elsewhere nothing is tried, and the test says so. A few cuts are made;
//! `GITOPS_AGENT_POWER_CUTS=N` makes N on each file system and prints the table of `docs/reliability.md`
//! (`cargo test --test power_cut -- --nocapture`).
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is what a long run is for")]

mod world;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use world::World;

/// File systems by what `mkfs` is told. Without a journal nothing is ordered but by the syncs that we ask for.
const FILE_SYSTEMS: [(&str, &[&str]); 2] = [
    ("ext4, journal", &["mkfs.ext4", "-q", "-F"]),
    ("ext4, no journal", &["mkfs.ext4", "-q", "-F", "-O", "^has_journal"]),
];

fn done(program: &str, words: &[&str]) -> bool {
    Command::new(program)
        .args(words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// A mounted image; unmounted when it is dropped, so that no failure leaves a mount behind.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// Commits of the journal come with syncs only, not with time: nothing is written that we did not ask for.
    fn mount(image: &Path, at: &Path, journal: bool) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let options = if journal { "loop,commit=900" } else { "loop" };
        done("mount", &["-o", options, image.to_str()?, at.to_str()?])
            .then(|| Self { image: image.to_owned(), at: at.to_owned() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let at = self.at.to_str().unwrap_or_default();
        for _ in 0..50 {
            if done("umount", &[at]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        done("umount", &["-l", at]);
    }
}

/// The processes of a world, by a variable that all of them inherit, and whether each stands still.
fn processes(mark: &str) -> Vec<(String, bool)> {
    let wanted = format!("POWER_CUT={mark}");
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        environment.split(|byte| *byte == 0).find(|variable| *variable == wanted.as_bytes())?;
        let state = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let still = matches!(state.rsplit_once(") ")?.1.as_bytes().first()?, b'T' | b'Z');
        Some((entry.file_name().to_str()?.to_owned(), still))
    })
    .collect()
}

fn signal(word: &str, ids: &[String]) {
    if !ids.is_empty() {
        Command::new("kill").arg(word).args(ids).stderr(Stdio::null()).status().unwrap();
    }
}

/// Stops everything between two instructions: nobody is inside a system call when this returns.
fn freeze(mark: &str) {
    let mut quiet = 0;
    while quiet < 2 {
        let moving: Vec<String> =
            processes(mark).into_iter().filter(|(_, still)| !still).map(|(id, _)| id).collect();
        quiet = if moving.is_empty() { quiet + 1 } else { 0 };
        signal("-STOP", &moving);
    }
}

fn end(mark: &str) {
    loop {
        let left: Vec<String> = processes(mark).into_iter().map(|(id, _)| id).collect();
        if left.is_empty() {
            return;
        }
        signal("-KILL", &left);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Commits without end. What was acknowledged, the hook saying nothing, is written down beside the repository; locks of
/// Git's own that the cut before left behind are taken away.
const COMMITTING: &str = r#"
rm -f .git/index.lock .git/HEAD.lock .git/refs/heads/main.lock
number=$(git rev-list --count --all)
while :; do
    number=$((number + 1))
    echo "$number $$" >a.txt
    git add -A
    if said=$(git commit -q -m "Number $number" 2>&1) && [ -z "$said" ]; then
        git rev-parse HEAD >>"$ACKNOWLEDGED"
    fi
done
"#;

fn stored(world: &World) -> Vec<String> {
    world.records().iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}

/// What the cuts of one file system came to.
#[derive(Default)]
struct Tally {
    cuts: usize,
    acknowledged: usize,
    in_flight: usize,
    spooled: usize,
}

fn cut_again_and_again(kind: &(&str, &[&str]), cuts: usize) -> Option<Tally> {
    let journal = !kind.0.contains("no journal");
    let mut world = World::new();
    let image = world.root().join("disk0");
    std::fs::File::create(&image).unwrap().set_len(48 << 20).unwrap();
    if !done(kind.1[0], &[&kind.1[1..], &[image.to_str().unwrap()]].concat()) {
        return None;
    }
    let at = world.root().join("disk");
    let mut disk = Disk::mount(&image, &at, journal)?;
    let mark = world.root().to_str().unwrap().to_owned();
    world.set("GITOPS_AGENT_HOME", at.join("own/home").to_str().unwrap());
    world.set("POWER_CUT", &mark);
    let acknowledged = world.root().join("acknowledged");
    world.set("ACKNOWLEDGED", acknowledged.to_str().unwrap());
    world.ok(&["install"]);
    let mut random = fastrand::Rng::with_seed(7);
    let mut tally = Tally::default();
    for cut in 1..=cuts {
        let copy = world.root().join(format!("disk{cut}"));
        let mut committing = world.shell(COMMITTING).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(200..1500)));
        freeze(&mark);
        std::fs::copy(&disk.image, &copy).unwrap();
        end(&mark);
        committing.wait().unwrap();
        let old = disk.image.clone();
        drop(disk);
        std::fs::remove_file(old).unwrap();
        if !journal {
            // Ends with 1 where it mended something.
            Command::new("e2fsck").args(["-f", "-y"]).arg(&copy).output().unwrap();
        }
        disk = Disk::mount(&copy, &at, journal).unwrap();
        let spool = std::fs::read_dir(at.join("own/home/spool")).into_iter().flatten().count();
        world.ok(&["flush"]);
        let there: Vec<String> = stored(&world);
        let said = std::fs::read_to_string(&acknowledged).unwrap_or_default();
        let acknowledged: BTreeSet<String> = said.lines().map(str::to_owned).collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|id| !there.contains(*id)).collect();
        assert!(lost.is_empty(), "{}, cut {cut}: acknowledged and lost: {lost:?}", kind.0);
        let commits: BTreeSet<String> = world.git(&["rev-list", "HEAD"]).lines().map(str::to_owned).collect();
        let unique: BTreeSet<String> = there.iter().cloned().collect();
        assert_eq!(unique.len(), there.len(), "{}, cut {cut}: stored twice", kind.0);
        assert_eq!(unique, commits, "{}, cut {cut}: not every commit is in the store", kind.0);
        world.ok(&["verify"]);
        tally.cuts += 1;
        tally.acknowledged = acknowledged.len();
        tally.in_flight = commits.len() - acknowledged.len();
        tally.spooled += spool;
    }
    end(&mark);
    Some(tally)
}

#[test]
fn a_power_cut_costs_nothing_that_was_acknowledged() {
    let cuts =
        std::env::var("GITOPS_AGENT_POWER_CUTS").ok().and_then(|count| count.parse().ok()).unwrap_or(3);
    println!(
        "{:18} {:>5} {:>13} {:>10} {:>8} {:>5}",
        "file system", "cuts", "acknowledged", "in flight", "spooled", "lost"
    );
    for kind in &FILE_SYSTEMS {
        let Some(tally) = cut_again_and_again(kind, cuts) else {
            eprintln!(
                "SKIPPED: no power cut on {}: mounting an image needs root, mkfs and loop devices",
                kind.0
            );
            continue;
        };
        let Tally { cuts, acknowledged, in_flight, spooled } = tally;
        println!("{:18} {cuts:5} {acknowledged:13} {in_flight:10} {spooled:8} {:5}", kind.0, 0);
        assert!(acknowledged > 0, "no commit was made before a cut");
    }
}
