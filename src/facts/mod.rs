//! What a commit changed, as plain values: the only thing that the rules and the risk model see.
//!
//! `capture` fills these from a repository; nothing here knows libgit2. The text of changed lines
//! ([`ChangedText`]) cannot be serialised, so that it cannot reach the record, the outbox or a log.

mod kind;
mod manifest;

pub use kind::FileKind;
pub use manifest::{ComponentChange, Manifest, ManifestVersion};

/// A path inside a repository: bytes, as Git keeps it, not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// Takes the path as Git stores it, with `/` between folders.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes as Git keeps them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for a record or a terminal: as it is when it is UTF-8 without control characters,
    /// otherwise in Git's C-style quotes (`"caf\303\251"`), which lose nothing.
    #[must_use]
    pub fn display(&self) -> String {
        if let Ok(text) = std::str::from_utf8(&self.0)
            && !text.chars().any(char::is_control)
        {
            return text.to_owned();
        }
        let mut out = String::from("\"");
        for &byte in &self.0 {
            match byte {
                b'"' => out.push_str("\\\""),
                b'\\' => out.push_str("\\\\"),
                b'\n' => out.push_str("\\n"),
                b'\r' => out.push_str("\\r"),
                b'\t' => out.push_str("\\t"),
                0x20..=0x7e => out.push(char::from(byte)),
                _ => out.push_str(&format!("\\{byte:03o}")),
            }
        }
        out.push('"');
        out
    }
}

impl std::fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.display())
    }
}

/// A person as the commit's header names them; bytes that are not UTF-8 are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Name, possibly empty.
    pub name: String,
    /// Mail address, possibly empty.
    pub email: String,
}

/// How a file changed, in Git's letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// `A`
    Added,
    /// `M`, a change of mode included
    Modified,
    /// `D`
    Deleted,
    /// `R`
    Renamed,
    /// `C`
    Copied,
    /// `T`: between file, symbolic link and submodule
    TypeChanged,
}

impl Status {
    /// Git's letter.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Self::Added => "A",
            Self::Modified => "M",
            Self::Deleted => "D",
            Self::Renamed => "R",
            Self::Copied => "C",
            Self::TypeChanged => "T",
        }
    }
}

/// One side (added or removed) of a file's change: the lines without their line ends, in order.
///
/// Deliberately not `Serialize` and not `Debug`-printing its text.
#[derive(Clone, Default)]
pub struct SideText {
    /// All lines, each followed by one `\n`.
    pub text: Vec<u8>,
    /// For each line: where it begins in `text`, and its one-based number in its version of the file.
    pub lines: Vec<LineStart>,
}

/// Where a line of a [`SideText`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineStart {
    /// Offset of its first byte in `text`.
    pub offset: u32,
    /// One-based line number in the new (added) or old (removed) version of the file.
    pub number: u32,
}

impl SideText {
    /// Appends a line (without its line end).
    pub fn push(&mut self, number: u32, line: &[u8]) {
        let offset = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        self.lines.push(LineStart { offset, number });
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }

    /// The lines in order, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.lines.iter().enumerate().map(|(index, start)| {
            let from = start.offset as usize;
            let to = self.lines.get(index + 1).map_or(self.text.len(), |next| next.offset as usize);
            (start.number, &self.text[from..to - 1])
        })
    }

    /// The line number of the line that holds byte `offset` of `text`.
    #[must_use]
    pub fn line_at(&self, offset: usize) -> Option<u32> {
        let index = self.lines.partition_point(|line| line.offset as usize <= offset);
        self.lines.get(index.checked_sub(1)?).map(|line| line.number)
    }

    /// Whether there is no line at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl std::fmt::Debug for SideText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SideText({} lines)", self.lines.len())
    }
}

/// The text of a file's changed lines.
#[derive(Clone, Debug, Default)]
pub struct ChangedText {
    /// Lines of the new version that the old one has not.
    pub added: SideText,
    /// Lines of the old version that the new one has not.
    pub removed: SideText,
}

/// One changed file.
#[derive(Clone, Debug)]
pub struct ChangedFile {
    /// Path in the new tree (in the old one for a deleted file).
    pub path: RepoPath,
    /// Path in the old tree, for renames and copies only.
    pub old_path: Option<RepoPath>,
    /// How it changed.
    pub status: Status,
    /// Git file mode in the old tree (`0o100644`, …), 0 where absent.
    pub old_mode: u32,
    /// Git file mode in the new tree, 0 where absent.
    pub new_mode: u32,
    /// Lines added; 0 for binary files.
    pub insertions: u32,
    /// Lines removed; 0 for binary files.
    pub deletions: u32,
    /// Lines of the old version; 0 for a new or binary file. The model's prior length.
    pub old_lines: u32,
    /// Size of the new version in bytes (of the old one for a deleted file), where it is known.
    pub size: Option<u64>,
    /// Whether either side is binary by Git's rule (a NUL in the first 8000 bytes).
    pub binary: bool,
    /// What kind of file it is, by path and content.
    pub kind: FileKind,
    /// The changed lines; empty for binary, huge and absent content.
    pub text: ChangedText,
    /// The components, where the file is a manifest that was read whole; not for merges.
    pub manifest: Option<Manifest>,
}

/// Why a record could not be made complete. In the record by these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Incomplete {
    /// A parent's objects are absent (shallow clone).
    ParentAbsent,
    /// A tree is absent (partial clone).
    TreeAbsent,
    /// A blob is absent (partial clone).
    BlobAbsent,
    /// A file above the size limit was counted but not read.
    FileTooLarge,
    /// The commit as a whole is above the limits: what lies beyond was counted but not read.
    CommitTooLarge,
}

impl Incomplete {
    /// The name in `incompleteBecause`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ParentAbsent => "parent-absent",
            Self::TreeAbsent => "tree-absent",
            Self::BlobAbsent => "blob-absent",
            Self::FileTooLarge => "file-too-large",
            Self::CommitTooLarge => "commit-too-large",
        }
    }
}

/// The kind of signature a commit carries (not whether it was verified).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureKind {
    /// `-----BEGIN PGP SIGNATURE-----`
    Openpgp,
    /// `-----BEGIN SSH SIGNATURE-----`
    Ssh,
    /// `-----BEGIN SIGNED MESSAGE-----`
    X509,
}

/// Everything that is known of one commit.
#[derive(Clone, Debug)]
pub struct CommitFacts {
    /// Full commit id, lower-case hex (40 or 64 characters).
    pub id: String,
    /// Parents as the commit's header names them, also where the objects are absent.
    pub parents: Vec<String>,
    /// The message; decoded by the commit's `encoding` header where it is one we know, bytes that do
    /// not decode replaced by U+FFFD.
    pub message: String,
    /// Author.
    pub author: Person,
    /// Committer.
    pub committer: Person,
    /// Author time, seconds since 1970 (UTC).
    pub author_time: i64,
    /// Committer time, seconds since 1970 (UTC).
    pub commit_time: i64,
    /// The signature's kind, where there is one.
    pub signature: Option<SignatureKind>,
    /// Files changed against the first parent (against nothing for a root commit), sorted by path.
    pub files: Vec<ChangedFile>,
    /// For a merge: what differs from *every* parent, which alone is judged.
    pub merged: Option<Vec<ChangedFile>>,
    /// Why the facts are incomplete, sorted, without repetition; empty when they are complete.
    pub incomplete: Vec<Incomplete>,
    /// `.gitops-agent.toml` from the commit's own tree, where it is there and not too large. Untrusted.
    pub carried: Option<Vec<u8>>,
}

impl CommitFacts {
    /// The files that rules and risk see: of a merge only what differs from every parent.
    #[must_use]
    pub fn judged(&self) -> &[ChangedFile] {
        self.merged.as_deref().unwrap_or(&self.files)
    }

    /// About how many bytes of memory this takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let of_side = |side: &SideText| side.text.len() + side.lines.len() * size_of::<LineStart>();
        let of_file = |file: &ChangedFile| {
            let manifest: usize = file.manifest.iter().flat_map(Manifest::contents).map(<[u8]>::len).sum();
            size_of::<ChangedFile>() + of_side(&file.text.added) + of_side(&file.text.removed) + manifest
        };
        let files = self.files.iter().chain(self.merged.iter().flatten());
        files.map(of_file).sum::<usize>() + self.message.len() + self.carried.as_ref().map_or(0, Vec::len)
    }
}
