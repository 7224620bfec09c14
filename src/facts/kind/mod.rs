//! What kind of file a path is, by its path and the beginning of its content.
//!
//! Formats of patient data and SBOMs are known by their content, since they come under any name; the rest
//! by names that are conventional across languages. The order matters: a patient's data in a test folder is
//! patient data, a lock file in a vendored folder is a lock file.

use memchr::memmem::find;
use serde::{Deserialize, Serialize};

/// Bytes of content that are looked at.
const HEAD: usize = 8000;

/// Bytes of a line that no hand wrote.
const MINIFIED: usize = 1000;

/// Generated files say so in the first lines.
const MARK: usize = 1024;

/// The kinds that rules can ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum FileKind {
    #[default]
    Source,
    Test,
    Doc,
    Config,
    Migration,
    Manifest,
    Lockfile,
    Generated,
    Binary,
    Hl7v2,
    Fhir,
    Dicom,
    X12,
    Ccda,
    Sbom,
}

impl FileKind {
    /// Tells the kind from a path as Git keeps it and the first bytes of the content (up to 8000 are looked
    /// at; an empty slice where the content is not known).
    #[must_use]
    pub fn classify(path: &[u8], content: &[u8]) -> Self {
        let lower = path.to_ascii_lowercase();
        let name = Name::new(path, &lower);
        let head = &content[..content.len().min(HEAD)];
        if name.ext == b"dcm" || head.get(128..132) == Some(b"DICM") {
            return Self::Dicom;
        }
        if is_any(name.ext, BINARY_EXT) || memchr::memchr(0, head).is_some() {
            return Self::Binary;
        }
        if is_any(name.lower, LOCKFILES) {
            return Self::Lockfile;
        }
        if is_manifest(&name) {
            return Self::Manifest;
        }
        if let Some(kind) = data_format(&name, head) {
            return kind;
        }
        if is_generated(&name, head) {
            return Self::Generated;
        }
        if is_test(&name) {
            return Self::Test;
        }
        if is_migration(&name) {
            return Self::Migration;
        }
        if is_doc(&name) {
            return Self::Doc;
        }
        if is_config(&name) {
            return Self::Config;
        }
        Self::Source
    }
}

/// A path taken apart; all parts but `original` in lower case.
struct Name<'a> {
    /// The file name as it is written.
    original: &'a [u8],
    /// The file name.
    lower: &'a [u8],
    /// The file name without its last extension.
    stem: &'a [u8],
    /// The last extension, empty where there is none.
    ext: &'a [u8],
    /// Everything before the file name, with its `/`.
    folder: &'a [u8],
}

impl<'a> Name<'a> {
    fn new(path: &'a [u8], lower: &'a [u8]) -> Self {
        let at = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
        let name = &lower[at..];
        let (stem, ext) = match memchr::memrchr(b'.', name) {
            Some(dot) if dot > 0 => (&name[..dot], &name[dot + 1..]),
            _ => (name, &name[name.len()..]),
        };
        Self { original: &path[at..], lower: name, stem, ext, folder: &lower[..at] }
    }

    fn in_folder(&self, names: &[&str]) -> bool {
        self.folder.split(|&byte| byte == b'/').any(|folder| is_any(folder, names))
    }
}

fn is_any(text: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| word.as_bytes() == text)
}

fn ends_with_any(text: &[u8], ends: &[&str]) -> bool {
    ends.iter().any(|end| text.ends_with(end.as_bytes()))
}

fn starts_with_any(text: &[u8], starts: &[&str]) -> bool {
    starts.iter().any(|start| text.starts_with(start.as_bytes()))
}

fn has(head: &[u8], word: &str) -> bool {
    find(head, word.as_bytes()).is_some()
}

const BINARY_EXT: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "bmp", "ico", "webp", "tif", "tiff", "pdf", "zip", "gz", "tgz", "bz2", "xz",
    "zst", "7z", "rar", "tar", "jar", "war", "ear", "class", "dll", "exe", "so", "dylib", "a", "o", "lib",
    "pdb", "pyc", "wasm", "woff", "woff2", "ttf", "otf", "eot", "mp3", "mp4", "mov", "avi", "wav", "ogg",
    "webm", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "db", "sqlite", "sqlite3", "bin", "parquet",
    "nii", "psd", "nupkg", "snk", "pfx", "p12", "jks", "keystore",
];

const LOCKFILES: &[&str] = &[
    "cargo.lock",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "composer.lock",
    "gemfile.lock",
    "poetry.lock",
    "pdm.lock",
    "uv.lock",
    "pipfile.lock",
    "go.sum",
    "go.work.sum",
    "podfile.lock",
    "package.resolved",
    "packages.lock.json",
    "gradle.lockfile",
    "mix.lock",
    "pubspec.lock",
    "flake.lock",
    "conan.lock",
    "deno.lock",
    "cartfile.resolved",
    ".terraform.lock.hcl",
    "paket.lock",
    "project.assets.json",
];

const MANIFESTS: &[&str] = &[
    "cargo.toml",
    "package.json",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "settings.gradle",
    "settings.gradle.kts",
    "libs.versions.toml",
    "go.mod",
    "go.work",
    "requirements.txt",
    "constraints.txt",
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "pipfile",
    "environment.yml",
    "environment.yaml",
    "gemfile",
    "composer.json",
    "podfile",
    "package.swift",
    "cartfile",
    "packages.config",
    "directory.packages.props",
    "directory.build.props",
    "paket.dependencies",
    "conanfile.txt",
    "conanfile.py",
    "vcpkg.json",
    "mix.exs",
    "pubspec.yaml",
    "bower.json",
    "deno.json",
    "build.sbt",
    "project.clj",
    "deps.edn",
    "cpanfile",
    "platformio.ini",
    "west.yml",
    "library.properties",
    ".gitmodules",
];

fn is_manifest(name: &Name<'_>) -> bool {
    is_any(name.lower, MANIFESTS)
        || is_any(name.ext, &["csproj", "fsproj", "vbproj", "gemspec", "podspec", "nuspec", "cabal"])
        || (name.lower.starts_with(b"requirements") && name.ext == b"txt")
        || (name.ext == b"txt" && name.folder.ends_with(b"requirements/"))
}

/// Formats that are known by their content. Source code that merely mentions a format is not one: only
/// files that hold data are asked.
fn data_format(name: &Name<'_>, head: &[u8]) -> Option<FileKind> {
    match name.ext {
        b"hl7" | b"hl7v2" => return Some(FileKind::Hl7v2),
        b"x12" => return Some(FileKind::X12),
        b"ccda" | b"cda" => return Some(FileKind::Ccda),
        b"spdx" => return Some(FileKind::Sbom),
        _ => {}
    }
    if ends_with_any(name.lower, &[".spdx.json", ".cdx.json", ".cdx.xml"])
        || is_any(name.lower, &["bom.json", "bom.xml", "sbom.json", "sbom.xml"])
    {
        return Some(FileKind::Sbom);
    }
    const DATA: &[&str] = &[
        "", "json", "ndjson", "jsonl", "xml", "txt", "msg", "edi", "837", "835", "834", "270", "271", "fhir",
        "csv", "log",
    ];
    if !is_any(name.ext, DATA) {
        return None;
    }
    // Messages can begin with a byte order mark or the vertical tab of their transport.
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = &text[text.iter().take_while(|byte| byte.is_ascii_whitespace() || **byte == 0x0b).count()..];
    if starts_with_any(text, &["MSH|", "FHS|", "BHS|"]) {
        return Some(FileKind::Hl7v2);
    }
    if text.starts_with(b"ISA*") {
        return Some(FileKind::X12);
    }
    match text.first() {
        Some(b'{' | b'[') => {
            let is_sbom = has(text, "\"bomFormat\"") || has(text, "\"spdxVersion\"");
            is_sbom
                .then_some(FileKind::Sbom)
                .or_else(|| has(text, "\"resourceType\"").then_some(FileKind::Fhir))
        }
        Some(b'<') if has(text, "<ClinicalDocument") => Some(FileKind::Ccda),
        Some(b'<') if has(text, "http://hl7.org/fhir\"") => Some(FileKind::Fhir),
        Some(b'<') if has(text, "cyclonedx.org/schema/bom") => Some(FileKind::Sbom),
        _ if has(&text[..text.len().min(MARK)], "SPDXVersion:") => Some(FileKind::Sbom),
        _ => None,
    }
}

fn is_generated(name: &Name<'_>, head: &[u8]) -> bool {
    let mark = &head[..head.len().min(MARK)];
    name.in_folder(&[
        "node_modules",
        "generated",
        "__generated__",
        "vendor",
        "third_party",
        "godeps",
        "bower_components",
    ]) || ends_with_any(
        name.lower,
        &[
            ".min.js",
            ".ai",
            ".eps",
            ".min.css",
            ".pb.go",
            "_pb2.py",
            "_pb2_grpc.py",
            ".pb.h",
            ".pb.cc",
            ".g.cs",
            ".g.dart",
            ".designer.cs",
            ".generated.cs",
            ".js.map",
            ".css.map",
            ".freezed.dart",
        ],
    ) || is_minified(name, head)
        || has(mark, "@generated")
        || has(mark, "<auto-generated")
        || (has(mark, "DO NOT EDIT") && (has(mark, "enerated") || has(mark, "GENERATED")))
}

/// Scripts and style sheets that nobody writes by hand: a line in their beginning is longer than a screen holds.
fn is_minified(name: &Name<'_>, head: &[u8]) -> bool {
    is_any(name.ext, &["js", "css", "mjs", "cjs"])
        && head.split(|byte| *byte == b'\n').any(|line| line.len() > MINIFIED)
}

fn is_test(name: &Name<'_>) -> bool {
    const FOLDERS: &[&str] = &[
        "test",
        "tests",
        "__tests__",
        "spec",
        "specs",
        "testdata",
        "test-data",
        "testing",
        "fixtures",
        "__mocks__",
        "e2e",
        "androidtest",
        "testfixtures",
        "unittests",
        "integrationtests",
    ];
    let in_test_project = name.folder.split(|&byte| byte == b'/').any(|folder| {
        ends_with_any(folder, &[".tests", ".test", ".unittests", "-tests", "-test", "_tests", "_test"])
            || find(folder, b".tests.").is_some()
    });
    // In camel case, so that `latest` and `contest` are none.
    let original_stem = &name.original[..name.stem.len()];
    name.in_folder(FOLDERS)
        || in_test_project
        || ends_with_any(original_stem, &["Test", "Tests", "TestCase", "Spec", "IT"])
            && !original_stem.is_empty()
        || ends_with_any(name.stem, &["_test", "_tests", "-test", ".test", "_spec", ".spec", "-spec", ".cy"])
        || name.stem.starts_with(b"test_")
        || name.lower == b"conftest.py"
}

fn is_migration(name: &Name<'_>) -> bool {
    // Flyway's `V12__name.sql`, `R__name.sql`, `U12__name.sql`.
    let flyway = name.ext == b"sql"
        && starts_with_any(name.stem, &["v", "u", "r"])
        && find(name.stem, b"__").is_some();
    flyway
        || name.in_folder(&["migrations", "migration", "migrate", "liquibase", "changelogs"])
        || find(name.folder, b"alembic/versions/").is_some()
        || (starts_with_any(name.lower, &["db.changelog", "liquibase", "changelog-"])
            && is_any(name.ext, &["xml", "yaml", "yml", "sql"]))
}

fn is_doc(name: &Name<'_>) -> bool {
    const NAMES: &[&str] = &[
        "readme",
        "changelog",
        "changes",
        "history",
        "license",
        "licence",
        "copying",
        "notice",
        "authors",
        "contributing",
        "contributors",
        "codeowners",
        "security",
        "news",
        "install",
        "todo",
    ];
    is_any(
        name.ext,
        &[
            "md", "markdown", "mdx", "rst", "adoc", "asciidoc", "txt", "tex", "org", "rtf", "pod", "1",
            "textile",
        ],
    ) || (is_any(name.stem, NAMES) && is_any(name.ext, &["", "html"]))
        || (name.in_folder(&["docs", "doc"]) && is_any(name.ext, &["html", "htm", "css", "svg", "puml", ""]))
}

fn is_config(name: &Name<'_>) -> bool {
    const EXT: &[&str] = &[
        "yml",
        "yaml",
        "toml",
        "ini",
        "cfg",
        "conf",
        "config",
        "properties",
        "env",
        "json",
        "json5",
        "jsonc",
        "plist",
        "xml",
        "tf",
        "tfvars",
        "hcl",
        "bicep",
        "props",
        "targets",
        "editorconfig",
        "cnf",
        "service",
        "reg",
        "xcconfig",
        "desktop",
    ];
    is_any(name.ext, EXT)
        || starts_with_any(
            name.lower,
            &["dockerfile", "jenkinsfile", ".env", "docker-compose", "vagrantfile"],
        )
        || (name.lower.starts_with(b".") && (name.ext.is_empty() || name.lower.ends_with(b"rc")))
        || ends_with_any(name.stem, &[".config", ".conf"])
        || name.ext == b"dockerfile"
}

#[cfg(test)]
mod tests;
