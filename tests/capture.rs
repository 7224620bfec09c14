//! Capture against real repositories, compared with what Git itself says.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use common::{FIRST_COMMIT, TestRepo};
use gitops_agent::capture::{CaptureError, CommitId, Repo};
use gitops_agent::facts::{ChangedFile, CommitFacts, ComponentChange, FileKind, Incomplete, SideText};

fn open(path: &Path) -> Repo {
    Repo::open(path).unwrap()
}

fn facts_of(path: &Path, id: &str) -> CommitFacts {
    open(path).facts(&CommitId::from_hex(id).unwrap()).unwrap()
}

fn facts(repo: &TestRepo, id: &str) -> CommitFacts {
    facts_of(&repo.path(), id)
}

/// `M path +1 -2`, with `old => ` for renames and `bin` for binary files.
fn line(file: &ChangedFile) -> String {
    let from = file.old_path.as_ref().map_or_else(String::new, |old| format!("{} => ", old.display()));
    let counts =
        if file.binary { "bin".to_owned() } else { format!("+{} -{}", file.insertions, file.deletions) };
    format!("{} {from}{} {counts}", file.status.letter(), file.path.display())
}

fn lines(files: &[ChangedFile]) -> Vec<String> {
    files.iter().map(line).collect()
}

fn text(side: &SideText) -> Vec<(u32, String)> {
    side.iter().map(|(number, line)| (number, String::from_utf8_lossy(line).into_owned())).collect()
}

fn numbered(from: usize, to: usize) -> String {
    (from..=to).map(|number| format!("line {number}\n")).collect()
}

// ---- the commit itself -------------------------------------------------------------------------------

#[test]
fn a_root_commit_is_compared_with_nothing() {
    let repo = TestRepo::new();
    repo.write("src/a.rs", "one\ntwo\n");
    repo.write("README.md", "no line end");
    let id = repo.commit("First\n\nbody");
    let facts = facts(&repo, &id);
    assert_eq!(lines(&facts.files), ["A README.md +1 -0", "A src/a.rs +2 -0"]);
    assert_eq!((facts.id.as_str(), facts.parents.len()), (id.as_str(), 0));
    assert_eq!(facts.message, "First\n\nbody\n");
    assert_eq!(facts.author.name, "A U Thor");
    assert_eq!(facts.committer.email, "committer@example.org");
    assert!(facts.commit_time >= FIRST_COMMIT && facts.incomplete.is_empty());
    assert!(facts.merged.is_none() && facts.signature.is_none() && facts.carried.is_none());
    assert_eq!(facts.files[0].kind, FileKind::Doc);
    assert_eq!(facts.files[1].size, Some(8));
    assert_eq!((facts.files[1].old_mode, facts.files[1].new_mode), (0, 0o100_644));
    assert_eq!(text(&facts.files[1].text.added), [(1, "one".to_owned()), (2, "two".to_owned())]);
}

#[test]
fn changed_lines_have_their_numbers() {
    let repo = TestRepo::new();
    repo.write("a.txt", numbered(1, 200));
    repo.commit("one");
    repo.write("a.txt", numbered(1, 200).replace("line 50\n", "LINE 50\nmore\n").replace("line 150\n", ""));
    let facts = facts(&repo, &repo.commit("two"));
    let file = &facts.files[0];
    assert_eq!(line(file), "M a.txt +2 -2");
    assert_eq!(file.old_lines, 200);
    assert_eq!(text(&file.text.added), [(50, "LINE 50".to_owned()), (51, "more".to_owned())]);
    assert_eq!(text(&file.text.removed), [(50, "line 50".to_owned()), (150, "line 150".to_owned())]);
}

/// The id of a submodule's commit means nothing here, and may be that of a file.
#[test]
fn a_submodule_does_not_hide_a_manifest_of_the_same_id() {
    let repo = TestRepo::new();
    repo.write("b/Cargo.toml", "[dependencies]\nring = \"0.17\"\n");
    repo.git(&["add", "b/Cargo.toml"]);
    let id = repo.git(&["rev-parse", ":b/Cargo.toml"]);
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},a/Cargo.toml")]);
    repo.git(&["commit", "-q", "-m", "both"]);
    let both = facts(&repo, &repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(lines(&both.files), ["A a/Cargo.toml +1 -0", "A b/Cargo.toml +2 -0"]);
    let manifest = both.files[1].manifest.as_ref().unwrap();
    assert_eq!(manifest.changes(), [("ring".to_owned(), ComponentChange::Added)]);
}

#[test]
fn modes_links_submodules_and_types() {
    let repo = TestRepo::new();
    repo.write("script.sh", "a\nb\n");
    repo.write("becomes-link", "text\n");
    repo.commit("one");
    let submodule = "1111111111111111111111111111111111111111";
    let pointer = |id: &str| repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},lib")]);
    repo.git(&["update-index", "--chmod=+x", "script.sh"]);
    std::os::unix::fs::symlink("script.sh", repo.path().join("link")).unwrap();
    std::fs::remove_file(repo.path().join("becomes-link")).unwrap();
    std::os::unix::fs::symlink("script.sh", repo.path().join("becomes-link")).unwrap();
    repo.git(&["add", "link", "becomes-link"]);
    pointer(submodule);
    repo.git(&["commit", "-q", "-m", "two"]);
    let two = facts(&repo, &repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(
        lines(&two.files),
        ["T becomes-link +1 -1", "A lib +1 -0", "A link +1 -0", "M script.sh +0 -0"]
    );
    assert_eq!((two.files[3].old_mode, two.files[3].new_mode), (0o100_644, 0o100_755));
    assert_eq!(text(&two.files[1].text.added), [(1, format!("Subproject commit {submodule}"))]);
    assert_eq!(text(&two.files[2].text.added), [(1, "script.sh".to_owned())]);

    pointer("2222222222222222222222222222222222222222");
    repo.git(&["commit", "-q", "-m", "three"]);
    let three = facts(&repo, &repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(lines(&three.files), ["M lib +1 -1"]);
    assert!(three.incomplete.is_empty());
}

#[test]
fn renames_exact_edited_and_with_a_new_mode() {
    let repo = TestRepo::new();
    repo.write("old/same.txt", numbered(1, 20));
    repo.write("old/edited.txt", numbered(100, 140));
    repo.write("old/rewritten.txt", numbered(200, 220));
    repo.commit("one");
    repo.git(&["mv", "old", "new"]);
    repo.git(&["mv", "new/edited.txt", "new/other-name.txt"]);
    repo.write("new/other-name.txt", numbered(100, 140).replace("line 120\n", "changed\n"));
    repo.write("new/rewritten.txt", numbered(900, 990));
    let facts = facts(&repo, &repo.commit("two"));
    assert_eq!(
        lines(&facts.files),
        [
            "R old/edited.txt => new/other-name.txt +1 -1",
            "A new/rewritten.txt +91 -0",
            "R old/same.txt => new/same.txt +0 -0",
            "D old/rewritten.txt +0 -21",
        ]
    );
    assert_eq!(facts.files[2].old_lines, 20);
}

#[test]
fn binary_files_are_counted_as_such() {
    let repo = TestRepo::new();
    repo.write("blob.xyz", b"a\0b\n");
    let id = repo.commit("one");
    let facts = facts(&repo, &id);
    assert_eq!(lines(&facts.files), ["A blob.xyz bin"]);
    assert_eq!((facts.files[0].kind, facts.files[0].size), (FileKind::Binary, Some(4)));
    assert!(facts.files[0].text.added.is_empty() && facts.incomplete.is_empty());
}

#[test]
fn huge_files_are_listed_without_being_read() {
    let repo = TestRepo::new();
    repo.write("small.txt", "a\n");
    std::fs::File::create(repo.path().join("huge.txt")).unwrap().set_len(64 << 20).unwrap();
    let id = repo.commit("one");
    let opened = open(&repo.path());
    let begin = std::time::Instant::now();
    let facts = opened.facts(&CommitId::from_hex(&id).unwrap()).unwrap();
    let took = begin.elapsed();
    assert_eq!(lines(&facts.files), ["A huge.txt +0 -0", "A small.txt +1 -0"]);
    assert_eq!(facts.files[0].size, Some(64 << 20));
    assert_eq!(facts.incomplete, [Incomplete::FileTooLarge]);
    assert!(took.as_millis() < 50, "{took:?}: the content was inflated");
}

#[test]
fn a_small_content_made_from_a_huge_one_is_read() {
    let repo = TestRepo::new();
    // Above the limit, and the base of the other: Git keeps the larger one whole.
    let huge: String = (0..400_000).map(|number| format!("line {number}\n")).collect();
    repo.write("a.txt", &huge);
    repo.commit("Huge");
    repo.write("a.txt", &huge[..huge.len() / 2]);
    let smaller = repo.commit("Smaller");
    repo.git(&["repack", "-q", "-a", "-d", "-f", "--depth=10", "--window=10"]);
    let chain = repo.git(&["cat-file", "--batch-check=%(deltabase)", "--batch-all-objects"]);
    let base = repo.git(&["rev-parse", "HEAD~1:a.txt"]);
    assert!(chain.contains(&base), "the one is no delta of the other: {chain}");
    let facts = facts(&repo, &smaller);
    assert_eq!(facts.files[0].size, Some(huge.len() as u64 / 2));
    assert_eq!(facts.incomplete, [Incomplete::FileTooLarge]);
}

/// libgit2 keeps what other contents are made from, and never lets go of what it could give no copy of.
#[test]
fn contents_that_are_too_large_for_one_reader_only_leave_the_others_room() {
    let repo = TestRepo::new();
    // Above what is read of a readme, below what is kept as a base; together three times what is kept.
    let line = |number: usize| format!("{:016x}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut lines: Vec<String> = (0..24_000).map(line).collect();
    let commits: Vec<String> = (0..120)
        .map(|version| {
            // Longer than before: Git makes the smaller content from the larger one.
            lines[version] = format!("version {version:030}\n");
            repo.write("README.md", lines.concat());
            repo.commit("Change")
        })
        .collect();
    repo.git(&["repack", "-q", "-a", "-d", "-f", "--depth=200", "--window=2"]);
    let (done, through) = std::sync::mpsc::channel();
    let path = repo.path();
    std::thread::spawn(move || {
        let repo = open(&path);
        let read = repo.reading(|reading| {
            for id in &commits {
                let id = CommitId::from_hex(id).unwrap();
                assert_eq!(reading.facts(&id).unwrap().files.len(), 1);
                assert!(repo.face_texts(&repo.face(&id).unwrap()).unwrap().is_empty());
            }
        });
        read.unwrap();
        done.send(()).unwrap();
    });
    through.recv_timeout(std::time::Duration::from_secs(100)).expect("it looks for room without end");
}

#[test]
fn a_commit_beyond_the_limit_is_listed_whole() {
    let repo = TestRepo::new();
    for file in 0..20_u8 {
        // 20 × 3.9 MiB of different text, above the 64 MiB of one commit.
        let line = [b'a' + file; 59];
        let content = [&line[..], b"\n"].concat().repeat(65_000);
        repo.write(&format!("{file:02}.txt"), content);
    }
    let id = repo.commit("one");
    let facts = facts(&repo, &id);
    assert_eq!(facts.incomplete, [Incomplete::CommitTooLarge]);
    assert_eq!(facts.files.len(), 20);
    assert_eq!(facts.files.iter().map(|file| file.insertions).sum::<u32>(), 17 * 65_000);
    assert!(facts.files.iter().all(|file| file.size == Some(3_900_000)));
}

#[test]
fn names_and_messages_in_other_encodings() {
    let repo = TestRepo::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.txt");
    std::fs::write(repo.path().join(name), "a\n").unwrap();
    repo.git(&["add", "-A"]);
    std::fs::write(repo.beside("message"), b"caf\xe9\n").unwrap();
    let message = repo.beside("message");
    repo.git(&["-c", "i18n.commitEncoding=ISO-8859-1", "commit", "-q", "-F", message.to_str().unwrap()]);
    let facts = facts(&repo, &repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(facts.message, "caf\u{e9}\n");
    assert_eq!(facts.files[0].path.as_bytes(), b"caf\xe9.txt");
    assert_eq!(lines(&facts.files), ["A \"caf\\351.txt\" +1 -0"]);
}

#[test]
fn the_carried_file_comes_from_the_commits_own_tree() {
    let repo = TestRepo::new();
    repo.write(".gitops-agent.toml", "class = \"ehr\"\n");
    let one = repo.commit("one");
    repo.write(".gitops-agent.toml", "x".repeat((64 << 10) + 1));
    let two = repo.commit("two");
    repo.git(&["rm", "-q", ".gitops-agent.toml"]);
    let three = repo.commit("three");
    assert_eq!(facts(&repo, &one).carried.as_deref(), Some(&b"class = \"ehr\"\n"[..]));
    assert_eq!(facts(&repo, &two).carried, None);
    assert_eq!(facts(&repo, &three).carried, None);
}

#[test]
fn what_is_no_commit_is_an_error() {
    let repo = TestRepo::new();
    repo.write("a", "a\n");
    repo.commit("one");
    let opened = open(&repo.path());
    let tree = CommitId::from_hex(&repo.git(&["rev-parse", "HEAD^{tree}"])).unwrap();
    let absent = CommitId::from_hex("1234567890123456789012345678901234567890").unwrap();
    for id in [tree, absent] {
        let error = opened.facts(&id).unwrap_err();
        assert!(matches!(error, CaptureError::Commit { .. }), "{error}");
        assert!(error.to_string().contains("git fsck"));
    }
}

// ---- merges ------------------------------------------------------------------------------------------

/// Two branches that change a file in different places, and one file each.
fn diverged() -> TestRepo {
    let repo = TestRepo::new();
    repo.write("shared.txt", numbered(1, 30));
    repo.commit("base");
    repo.git(&["checkout", "-q", "-b", "side"]);
    repo.write("shared.txt", numbered(1, 30).replace("line 28\n", "side\n"));
    repo.write("side.txt", "side\n");
    repo.commit("side");
    repo.git(&["checkout", "-q", "main"]);
    repo.write("shared.txt", numbered(1, 30).replace("line 3\n", "main\n"));
    repo.write("main.txt", "main\n");
    repo.commit("main");
    repo
}

#[test]
fn a_clean_merge_changed_nothing_itself() {
    let repo = diverged();
    repo.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let facts = facts(&repo, &repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(facts.parents.len(), 2);
    assert_eq!(lines(&facts.files), ["M shared.txt +1 -1", "A side.txt +1 -0"]);
    assert!(facts.files.iter().all(|file| file.text.added.is_empty()), "only counts are kept");
    assert_eq!(facts.judged().len(), 0);
    assert_eq!(repo.git(&["show", "--cc", "--format=", "HEAD"]), "");
}

#[test]
fn an_evil_merge_is_judged_by_its_own_lines() {
    let repo = diverged();
    repo.git(&["merge", "-q", "--no-ff", "--no-commit", "side"]);
    let merged = std::fs::read_to_string(repo.path().join("shared.txt")).unwrap();
    repo.write("shared.txt", merged.replace("line 15\n", "evil\n"));
    repo.write("evil.txt", "from nowhere\n");
    let facts = facts(&repo, &repo.commit("merge"));
    assert_eq!(lines(facts.judged()), ["A evil.txt +1 -0", "M shared.txt +1 -1"]);
    assert_eq!(text(&facts.judged()[1].text.added), [(15, "evil".to_owned())]);
    assert_eq!(text(&facts.judged()[1].text.removed), [(15, "line 15".to_owned())]);

    let shown = repo.git(&["show", "--cc", "--format=", "HEAD"]);
    let both = |sign: &str| shown.lines().filter(|line| line.starts_with(sign)).count();
    // `+++` and `---` of the two file headers, then the lines that differ from both parents.
    assert_eq!((both("++") - 2, both("--") - 2), (2, 1), "{shown}");
}

#[test]
fn a_resolved_conflict_is_judged() {
    let repo = TestRepo::new();
    repo.write("a.txt", "one\ntwo\nthree\n");
    repo.commit("base");
    repo.git(&["checkout", "-q", "-b", "side"]);
    repo.write("a.txt", "one\nside\nthree\n");
    repo.commit("side");
    repo.git(&["checkout", "-q", "main"]);
    repo.write("a.txt", "one\nmain\nthree\n");
    repo.commit("main");
    let merge = repo.command("git", &repo.path()).args(["merge", "-q", "side"]).output().unwrap();
    assert!(!merge.status.success());
    repo.write("a.txt", "one\nboth\nthree\n");
    let facts = facts(&repo, &repo.commit("merge"));
    assert_eq!(lines(facts.judged()), ["M a.txt +1 -0"]);
    assert_eq!(text(&facts.judged()[0].text.added), [(2, "both".to_owned())]);
}

#[test]
fn a_file_renamed_on_one_side_and_edited_on_the_other_merges_cleanly() {
    let repo = TestRepo::new();
    repo.write("before.txt", numbered(1, 30));
    repo.commit("base");
    repo.git(&["checkout", "-q", "-b", "side"]);
    repo.write("before.txt", numbered(1, 30).replace("line 5\n", "side\n"));
    repo.commit("side");
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["mv", "before.txt", "after.txt"]);
    repo.commit("main");
    repo.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let facts = facts(&repo, &repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(lines(&facts.files), ["M after.txt +1 -1"]);
    assert_eq!(lines(facts.judged()), [""; 0]);
}

#[test]
fn an_octopus_has_all_its_parents() {
    let repo = TestRepo::new();
    repo.write("base.txt", "base\n");
    repo.commit("base");
    for branch in ["one", "two", "three"] {
        repo.git(&["checkout", "-q", "-b", branch, "main"]);
        repo.write(&format!("{branch}.txt"), "x\n");
        repo.commit(branch);
    }
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["merge", "-q", "--no-ff", "-m", "octopus", "one", "two", "three"]);
    let id = repo.git(&["rev-parse", "HEAD"]);
    let facts = facts(&repo, &id);
    assert_eq!(facts.parents.len(), 4);
    assert_eq!(lines(&facts.files), ["A one.txt +1 -0", "A three.txt +1 -0", "A two.txt +1 -0"]);
    assert!(facts.judged().is_empty() && facts.incomplete.is_empty());
}

// ---- kinds of repositories ---------------------------------------------------------------------------

#[test]
fn sha256_repositories() {
    let repo = TestRepo::with(&["--object-format=sha256"]);
    repo.write("a.txt", "a\nb\n");
    repo.commit("one");
    repo.write("a.txt", "a\nB\n");
    let id = repo.commit("two");
    assert_eq!(id.len(), 64);
    let facts = facts(&repo, &id);
    assert_eq!(lines(&facts.files), ["M a.txt +1 -1"]);
    assert_eq!(facts.parents[0].len(), 64);
    let opened = open(&repo.path());
    assert_eq!(opened.head().unwrap().unwrap().hex(), id);
    assert_eq!(opened.resolve(&[], None, None).unwrap().len(), 2);
}

#[test]
fn worktrees_submodules_and_bare_repositories() {
    let repo = TestRepo::new();
    repo.write("a.txt", "a\n");
    let id = repo.commit("one");
    let worktree = repo.beside("linked");
    repo.git(&["worktree", "add", "-q", "-b", "feature", worktree.to_str().unwrap()]);
    let linked = open(&worktree);
    assert_eq!(linked.branch().as_deref(), Some("feature"));
    assert_eq!(linked.head().unwrap().unwrap().hex(), id);
    assert!(linked.git_dir().ends_with("worktrees/linked"));
    assert_eq!(linked.common_dir().canonicalize().unwrap(), repo.path().join(".git").canonicalize().unwrap());

    let outer = TestRepo::new();
    let url = repo.path();
    outer.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        url.to_str().unwrap(),
        "inner",
    ]);
    let inner = open(&outer.path().join("inner"));
    assert!(inner.git_dir().ends_with("modules/inner"));
    assert_eq!(lines(&inner.facts(&inner.head().unwrap().unwrap()).unwrap().files), ["A a.txt +1 -0"]);

    let bare = repo.beside("bare.git");
    repo.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let bare = open(&bare);
    assert!(bare.workdir().is_none());
    assert_eq!(lines(&bare.facts(&bare.head().unwrap().unwrap()).unwrap().files), ["A a.txt +1 -0"]);

    // From a folder inside, as from the root.
    repo.write("deep/er/b.txt", "b\n");
    assert_eq!(open(&repo.path().join("deep/er")).head().unwrap().unwrap().hex(), id);
}

#[test]
fn shallow_clones_keep_the_headers_parents() {
    let repo = TestRepo::new();
    for round in 1..=4 {
        repo.write("a.txt", numbered(1, round));
        repo.commit("more");
    }
    let clone = repo.beside("shallow");
    repo.git(&[
        "clone",
        "-q",
        "--depth",
        "2",
        &format!("file://{}", repo.path().display()),
        clone.to_str().unwrap(),
    ]);
    let ids = open(&clone).resolve(&[], None, None).unwrap();
    assert_eq!(ids.len().to_string(), repo.git_in(&clone, &["rev-list", "--count", "HEAD"]));
    let edge = facts_of(&clone, &ids[0].hex());
    assert_eq!(edge.parents, [repo.git(&["rev-parse", "HEAD~2"])]);
    assert_eq!(edge.incomplete, [Incomplete::ParentAbsent]);
    assert!(edge.files.is_empty(), "not everything as added");
    let head = facts_of(&clone, &ids[1].hex());
    assert_eq!(lines(&head.files), ["M a.txt +1 -0"]);
    assert!(head.incomplete.is_empty());
    assert!(!open(&clone).root_commits().unwrap().complete);
}

#[test]
fn partial_clones_say_what_is_absent() {
    let repo = TestRepo::new();
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    repo.write("dir/a.txt", "a\n");
    repo.commit("one");
    repo.write("dir/a.txt", "b\n");
    repo.write("dir/b.txt", "b\n");
    let id = repo.commit("two");
    let url = format!("file://{}", repo.path().display());

    let blobless = repo.beside("blobless");
    repo.git(&["clone", "-q", "--no-checkout", "--filter=blob:none", &url, blobless.to_str().unwrap()]);
    let facts = facts_of(&blobless, &id);
    assert_eq!(lines(&facts.files), ["M dir/a.txt +0 -0", "A dir/b.txt +0 -0"]);
    assert_eq!(facts.incomplete, [Incomplete::BlobAbsent]);

    let treeless = repo.beside("treeless");
    repo.git(&["clone", "-q", "--no-checkout", "--filter=tree:0", &url, treeless.to_str().unwrap()]);
    let facts = facts_of(&treeless, &id);
    assert!(facts.files.is_empty());
    assert_eq!(facts.incomplete, [Incomplete::TreeAbsent]);
    assert_eq!(facts.parents.len(), 1);
}

#[test]
fn what_cannot_be_opened_says_what_to_do() {
    let nowhere = tempfile::tempdir().unwrap();
    let error = Repo::open(nowhere.path()).err().unwrap();
    assert!(matches!(error, CaptureError::NotARepository { .. }), "{error}");
    assert!(error.to_string().contains("git init"));

    let repo = TestRepo::new();
    repo.git(&["config", "core.repositoryFormatVersion", "1"]);
    repo.git(&["config", "extensions.refStorage", "reftable"]);
    let error = Repo::open(&repo.path()).err().unwrap();
    assert!(matches!(error, CaptureError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("git refs migrate"));
}

// ---- heads, remotes, settings ------------------------------------------------------------------------

#[test]
fn before_the_first_commit() {
    let repo = TestRepo::new();
    let opened = open(&repo.path());
    assert_eq!(opened.head().unwrap(), None);
    assert_eq!(opened.branch().as_deref(), Some("main"));
    assert_eq!(opened.resolve(&[], None, None).unwrap(), []);
    assert_eq!(opened.resolve(&["--all".to_owned()], None, None).unwrap(), []);
    assert_eq!(opened.root_commits().unwrap().ids, []);
    assert_eq!(opened.last_reflog_message(), None);
    assert!(opened.resolve_one("HEAD").is_err());
}

#[test]
fn the_branch_is_known_during_a_rebase() {
    let repo = TestRepo::new();
    repo.write("a.txt", "a\n");
    repo.commit("one");
    repo.git(&["checkout", "-q", "-b", "feature/x"]);
    repo.write("b.txt", "b\n");
    let tip = repo.commit("two");
    assert_eq!(open(&repo.path()).branch().as_deref(), Some("feature/x"));
    assert_eq!(open(&repo.path()).last_reflog_message().as_deref(), Some("commit: two"));
    repo.git(&["checkout", "-q", &tip]);
    assert_eq!(open(&repo.path()).branch(), None);
    repo.git(&["checkout", "-q", "feature/x"]);
    // Stops after the commit: the failing command leaves the rebase open.
    let rebase = repo
        .command("git", &repo.path())
        .args(["rebase", "-q", "--force-rebase", "--exec", "false", "main"])
        .output()
        .unwrap();
    assert!(!rebase.status.success());
    assert_eq!(open(&repo.path()).branch().as_deref(), Some("feature/x"));
}

#[test]
fn the_remote_of_the_branch_comes_first() {
    let repo = TestRepo::new();
    let url = || open(&repo.path()).remote_url();
    assert_eq!(url(), None);
    repo.git(&["config", "remote.fork.url", "https://example.org/fork.git"]);
    repo.git(&["config", "remote.fork.fetch", "+refs/heads/*:refs/remotes/fork/*"]);
    assert_eq!(url().as_deref(), Some("https://example.org/fork.git"));
    repo.git(&["config", "remote.other.url", "https://example.org/other.git"]);
    repo.git(&["config", "remote.other.fetch", "+refs/heads/*:refs/remotes/other/*"]);
    assert_eq!(url(), None);
    repo.git(&["config", "remote.origin.url", "git@example.org:origin.git"]);
    repo.git(&["config", "--add", "remote.origin.url", "git@example.org:second.git"]);
    assert_eq!(url().as_deref(), Some("git@example.org:origin.git"));
    repo.git(&["config", "branch.main.remote", "fork"]);
    assert_eq!(url().as_deref(), Some("https://example.org/fork.git"));
}

#[test]
fn local_settings_and_conditional_includes() {
    let repo = TestRepo::new();
    let own = |repo: &TestRepo| -> Vec<(String, String, String)> {
        let settings = open(&repo.path()).settings().unwrap().into_iter();
        // The machine's own global settings may hold some too.
        let own = settings.filter(|setting| setting.origin.contains("local"));
        own.map(|setting| (setting.key, setting.value, setting.origin)).collect()
    };
    let entry = |key: &str, value: &str, origin: &str| (key.to_owned(), value.to_owned(), origin.to_owned());
    assert_eq!(own(&repo), []);
    repo.git(&["config", "gitops-agent.Tenant", "clinic"]);
    let extra = repo.beside("extra.config");
    std::fs::write(&extra, "[gitops-agent]\n\tclass = ehr\n\tenabled\n").unwrap();
    let included = [
        entry("gitops-agent.tenant", "clinic", "git config (local)"),
        entry("gitops-agent.class", "ehr", "git config (local, included)"),
        entry("gitops-agent.enabled", "true", "git config (local, included)"),
    ];
    let conditions = [format!("gitdir:{}/", repo.path().display()), "onbranch:main".to_owned()];
    for condition in &conditions {
        let key = format!("includeIf.{condition}.path");
        repo.git(&["config", &key, extra.to_str().unwrap()]);
        assert_eq!(own(&repo), included, "{condition}");
        repo.git(&["config", "--unset", &key]);
    }
    repo.git(&["config", "includeIf.gitdir:/nowhere/.path", extra.to_str().unwrap()]);
    assert_eq!(own(&repo), included[..1]);
}

// ---- walks -------------------------------------------------------------------------------------------

/// main: 6 commits of which one merges `side` (2 commits); a second root merged in; tags.
fn history() -> TestRepo {
    let repo = diverged();
    repo.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    repo.git(&["tag", "-a", "-m", "annotated", "v1"]);
    repo.git(&["checkout", "-q", "--orphan", "second-root"]);
    repo.commit("another root");
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["merge", "-q", "--allow-unrelated-histories", "-s", "ours", "-m", "join", "second-root"]);
    repo.write("last.txt", "x\n");
    repo.commit("last");
    repo.git(&["branch", "gone", "HEAD"]);
    repo.git(&["checkout", "-q", "-b", "topic", "v1"]);
    repo.commit("topic");
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["tag", "blob", "HEAD:last.txt"]);
    repo
}

#[test]
fn revisions_select_what_rev_list_selects() {
    let repo = history();
    let detached = repo.beside("detached");
    repo.git(&["worktree", "add", "-q", "--detach", detached.to_str().unwrap(), "topic"]);
    repo.git_in(&detached, &["commit", "-q", "--allow-empty", "-m", "only in a worktree"]);
    let opened = open(&repo.path());
    let cases: &[&[&str]] = &[
        &["HEAD"],
        &["--all"],
        &["--branches"],
        &["v1"],
        &["v1", "topic"],
        &["HEAD", "^v1"],
        &["v1..HEAD"],
        &["v1.."],
        &["topic...main"],
        &["HEAD~2"],
        &["HEAD~1^2"],
        &["HEAD..HEAD"],
        &["--all", "^main"],
    ];
    for words in cases {
        let given: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let mut ids: Vec<String> =
            opened.resolve(&given, None, None).unwrap().iter().map(CommitId::hex).collect();
        let listed = repo.git(&[&["rev-list"][..], words].concat());
        let mut listed: Vec<&str> = listed.lines().collect();
        for (index, id) in ids.iter().enumerate() {
            for parent in facts(&repo, id).parents {
                assert!(!ids[index..].contains(&parent), "{words:?}: a child before its parent");
            }
        }
        ids.sort();
        listed.sort_unstable();
        assert_eq!(ids, listed, "{words:?}");
    }
    assert_eq!(
        opened.resolve(&[], None, None).unwrap(),
        opened.resolve(&["HEAD".to_owned()], None, None).unwrap()
    );
}

#[test]
fn since_and_until_by_committer_time() {
    let repo = history();
    let opened = open(&repo.path());
    let times: Vec<i64> =
        repo.git(&["log", "--format=%ct"]).lines().map(|time| time.parse().unwrap()).collect();
    let (newest, oldest) = (times[0], times[times.len() - 1]);
    let count = |since, until| opened.resolve(&[], since, until).unwrap().len();
    assert_eq!(count(Some(oldest), Some(newest)), times.len());
    assert_eq!(count(Some(newest), None), 1);
    assert_eq!(count(None, Some(oldest)), 1);
    assert_eq!(count(Some(newest + 1), None), 0);
    let listed = repo.git(&["rev-list", "--count", &format!("--since=@{}", times[2]), "HEAD"]);
    assert_eq!(count(Some(times[2]), None).to_string(), listed);
}

#[test]
fn revisions_that_name_nothing() {
    let repo = history();
    let opened = open(&repo.path());
    for word in [
        "nope",
        "nope..HEAD",
        "HEAD..nope",
        "^nope",
        "--what",
        "",
        "HEAD~99",
        "v1^{tree}",
        "blob",
        "HEAD:last.txt",
    ] {
        let error = opened.resolve(&[word.to_owned()], None, None).unwrap_err();
        assert!(matches!(error, CaptureError::Revision { .. }), "{word}: {error}");
    }
    assert_eq!(opened.resolve_one("v1").unwrap().hex(), repo.git(&["rev-parse", "v1^{commit}"]));
    assert_eq!(opened.resolve_one("HEAD~2").unwrap().hex(), repo.git(&["rev-parse", "HEAD~2"]));
    assert_eq!(opened.resolve_one("topic").unwrap().hex(), repo.git(&["rev-parse", "topic"]));
}

#[test]
fn all_roots_of_a_history() {
    let repo = history();
    let roots = open(&repo.path()).root_commits().unwrap();
    let ids: Vec<String> = roots.ids.iter().map(CommitId::hex).collect();
    let mut listed: Vec<String> =
        repo.git(&["rev-list", "--max-parents=0", "HEAD"]).lines().map(str::to_owned).collect();
    listed.sort();
    assert_eq!((ids, roots.complete), (listed, true));
}

#[test]
fn a_push_publishes_what_no_remote_ref_has() {
    let repo = history();
    let bare = repo.beside("remote.git");
    repo.git(&["init", "-q", "--bare", bare.to_str().unwrap()]);
    repo.git(&["remote", "add", "origin", bare.to_str().unwrap()]);
    let opened = open(&repo.path());
    let tip = |name: &str| opened.resolve_one(name).unwrap();
    let all = opened.unpublished(&[tip("main")], "origin").unwrap();
    assert_eq!(all.ids.len().to_string(), repo.git(&["rev-list", "--count", "main"]));
    repo.git(&["push", "-q", "origin", "v1^{commit}:refs/heads/deep/main"]);
    for remote in ["origin", bare.to_str().unwrap()] {
        let rest = opened.unpublished(&[tip("main"), tip("topic")], remote).unwrap();
        let listed = repo.git(&["rev-list", "--count", "main", "topic", "--not", "--remotes=origin"]);
        assert_eq!((rest.ids.len().to_string(), rest.truncated), (listed, false));
        assert_eq!(rest.ids.last(), Some(&tip("topic")), "oldest first");
    }
    repo.git(&["push", "-q", "origin", "main", "topic"]);
    assert!(opened.unpublished(&[tip("main"), tip("topic")], "origin").unwrap().ids.is_empty());
}

// ---- against Git's own numbers -----------------------------------------------------------------------

#[test]
fn counts_agree_with_git_over_a_history() {
    let repo = TestRepo::new();
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut files: Vec<(String, Vec<String>)> = Vec::new();
    for round in 0..40 {
        for _ in 0..4 {
            let pick = usize::try_from(next(12)).unwrap();
            if pick >= files.len() {
                let content =
                    (0..10 + next(40)).map(|line| format!("{round} {line} {}", next(1000))).collect();
                files.push((format!("d{}/f{round}-{pick}-{}.txt", next(4), next(100)), content));
                continue;
            }
            match next(8) {
                0 => drop(files.remove(pick)),
                1 => files[pick].0 = format!("moved{}/{round}-{pick}-{}", next(3), next(100)),
                _ => {
                    let content = &mut files[pick].1;
                    let at = usize::try_from(next(content.len() as u64 + 1)).unwrap();
                    let end = content.len().min(at + usize::try_from(next(3)).unwrap());
                    content.splice(at..end, (0..next(4)).map(|line| format!("new {round} {line}")));
                }
            }
        }
        repo.git(&["rm", "-rq", "--ignore-unmatch", "."]);
        for (path, content) in &files {
            repo.write(path, content.join(if round % 5 == 0 { "\r\n" } else { "\n" }));
        }
        repo.commit(&format!("round {round}"));
    }
    let opened = open(&repo.path());
    for id in opened.resolve(&[], None, None).unwrap() {
        let facts = opened.facts(&id).unwrap();
        let ours: Vec<String> = facts
            .files
            .iter()
            .map(|file| {
                let from =
                    file.old_path.as_ref().map_or_else(String::new, |old| format!("{} ", old.display()));
                format!("{} {} {from}{}", file.insertions, file.deletions, file.path.display())
            })
            .collect();
        let shown = repo.git(&[
            "show",
            "--format=",
            "--numstat",
            "-z",
            "-M",
            "--diff-algorithm=histogram",
            &id.hex(),
        ]);
        assert_eq!(ours, numstat(&shown), "{id}");
    }
}

/// `insertions deletions [old ]new` of each file of `--numstat -z`.
fn numstat(shown: &str) -> Vec<String> {
    let mut parts = shown.split('\0').filter(|part| !part.is_empty());
    let mut files = Vec::new();
    while let Some(part) = parts.next() {
        let line = part.replace('\t', " ");
        files.push(if line.ends_with(' ') {
            format!("{line}{} {}", parts.next().unwrap(), parts.next().unwrap())
        } else {
            line
        });
    }
    files
}

// ---- inside a hook -----------------------------------------------------------------------------------

/// What a hook sees is asked in a process of its own, because it depends on the environment: this test
/// program is the hook, and runs the one test below.
const INSIDE: &str = "inside_a_hook";

#[test]
#[ignore = "runs as a hook of the next test"]
fn inside_a_hook() {
    let repo = Repo::open_from_env().unwrap();
    let head = repo.head().unwrap().unwrap();
    let tenants = repo.settings().unwrap().into_iter().filter(|setting| setting.key == "gitops-agent.tenant");
    let tenants: Vec<String> =
        tenants.map(|setting| format!("{} {}", setting.value, setting.origin)).collect();
    let seen =
        format!("{head}\n{}\n{}\n", lines(&repo.facts(&head).unwrap().files).join(", "), tenants.join(", "));
    std::fs::write(std::env::var("CAPTURE_SEEN").unwrap(), seen).unwrap();
}

#[test]
fn a_hook_finds_its_repository() {
    let repo = TestRepo::new();
    let (seen, global) = (repo.beside("seen"), repo.beside("global.config"));
    std::fs::write(&global, "[gitops-agent]\n\ttenant = everywhere\n").unwrap();
    let program = std::env::current_exe().unwrap();
    repo.write(
        ".git/hooks/post-commit",
        format!("#!/bin/sh\nexec '{}' --ignored --exact {INSIDE} >/dev/null\n", program.display()),
    );
    let hook = repo.path().join(".git/hooks/post-commit");
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    repo.git(&["config", "gitops-agent.tenant", "here"]);

    let commit = |folder: &Path, git_options: &[&str], file: &str| {
        std::fs::write(folder.join(file), "a\n").unwrap();
        for arguments in [&["add", file][..], &["commit", "-q", "-m", "x"]] {
            let mut command = repo.command("git", folder);
            command.env("CAPTURE_SEEN", &seen).env("GIT_CONFIG_GLOBAL", &global);
            assert!(command.args(git_options).args(arguments).status().unwrap().success());
        }
        let id = repo.git_in(folder, &[git_options, &["rev-parse", "HEAD"]].concat());
        let expected =
            format!("{id}\nA {file} +1 -0\neverywhere git config (global), here git config (local)\n");
        assert_eq!(std::fs::read_to_string(&seen).unwrap(), expected, "{}", folder.display());
        std::fs::remove_file(&seen).unwrap();
    };
    commit(&repo.path(), &[], "main.txt");

    let linked = repo.beside("linked");
    repo.git(&["worktree", "add", "-q", linked.to_str().unwrap()]);
    commit(&linked, &[], "linked.txt");

    // The folder is inside another repository, which is the wrong one.
    let other = TestRepo::new();
    let git_dir = format!("--git-dir={}", repo.path().join(".git").display());
    commit(&other.path(), &[&git_dir, "--work-tree=."], "apart.txt");
}

#[test]
fn a_repository_can_move_to_another_thread() {
    let repo = TestRepo::new();
    repo.write("a.txt", "a\n");
    let id = CommitId::from_hex(&repo.commit("one")).unwrap();
    let opened = open(&repo.path());
    let files = std::thread::spawn(move || opened.facts(&id).unwrap().files.len()).join().unwrap();
    assert_eq!(files, 1);
}

#[test]
fn thousands_of_equal_files_that_move() {
    let repo = TestRepo::new();
    for file in 0..5000 {
        repo.write(&format!("old/{file}"), "");
    }
    repo.commit("one");
    // Other names as well, so that no name leads to its partner.
    std::fs::remove_dir_all(repo.path().join("old")).unwrap();
    for file in 0..5000 {
        repo.write(&format!("new/{file}.txt"), "");
    }
    let id = repo.commit("two");
    let begin = std::time::Instant::now();
    let facts = facts(&repo, &id);
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    assert_eq!(facts.files.len(), 5000);
    assert!(facts.files.iter().all(|file| file.old_path.is_some()));
}
