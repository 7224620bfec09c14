//! Components of a manifest or lock file, parsed, and how they changed.
//!
//! Parsed when first asked, from the whole old and new content, which capture keeps for files with the name of a
//! manifest only. What does not parse has no components: a broken manifest is no error of the commit, and rules
//! about its path still see it. A component is named as its ecosystem names it (`group:artifact` for Maven and
//! Gradle, the module path for Go); several versions of one, as lock files have, are a set.
//!
//! Files: Cargo, npm, yarn, pnpm, Maven, Gradle with version catalogues and lock files, Go, pip, Pipenv, PEP 621,
//! Poetry, uv, PDM, NuGet, Bundler, Composer, CocoaPods, Swift packages, CMake pins, base images of Dockerfiles. Limits: 8 MiB each
//! side; build scripts that compute their versions are read as far as their literals go.

mod lines;
mod script;
mod tables;
mod xml;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

/// A content above this is not parsed.
const MAX_BYTES: usize = 8 << 20;

/// A component takes some 200 bytes; of a content that has one in less than so many of its own they are not kept.
const BYTES_OF_ONE: usize = 64;

/// How a component changed. The words of rules in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComponentChange {
    /// It was not there before; also a further version beside the old one.
    Added,
    /// It is not there any more; also one of several versions.
    Removed,
    /// The first number of its version changed, or two versions that cannot be compared.
    Major,
    /// The second number changed.
    Minor,
    /// Anything behind the second number changed.
    Patch,
}

impl ComponentChange {
    /// The name in rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Major => "major",
            Self::Minor => "minor",
            Self::Patch => "patch",
        }
    }
}

/// The two versions of a manifest. Not serialisable, like the text of changed lines.
#[derive(Clone)]
pub struct Manifest {
    old: Option<Arc<ManifestVersion>>,
    new: Option<Arc<ManifestVersion>>,
    changes: OnceLock<Vec<(String, ComponentChange)>>,
}

/// One version of a manifest. A history has each as the new one and later as the old one: it is parsed once where both
/// are the same value.
pub struct ManifestVersion {
    format: Format,
    content: Box<[u8]>,
    components: OnceLock<Components>,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format = self.new.as_ref().or(self.old.as_ref()).map(|version| version.format);
        write!(f, "Manifest({format:?})")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    CargoToml,
    TomlLock,
    Pyproject,
    Pipfile,
    VersionCatalog,
    PackageJson,
    PackageLock,
    NugetLock,
    SwiftResolved,
    PipfileLock,
    ComposerJson,
    ComposerLock,
    Gemfile,
    GemfileLock,
    YarnLock,
    PnpmLock,
    GoMod,
    Requirements,
    Podfile,
    PodfileLock,
    PackageSwift,
    Gradle,
    GradleLock,
    Cmake,
    Dockerfile,
    Maven,
    Nuget,
}

impl ManifestVersion {
    /// Takes the content of a file; `None` where its name is no manifest's.
    #[must_use]
    pub fn new(path: &[u8], content: &[u8]) -> Option<Self> {
        let format = Format::of(path)?;
        Some(Self { format, content: content.into(), components: OnceLock::new() })
    }

    /// The content, as it was given.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Whether it was given under a name that means the same as that of `path`.
    #[must_use]
    pub fn fits(&self, path: &[u8]) -> bool {
        Format::of(path) == Some(self.format)
    }

    /// The components; kept where they take about as much memory as the content, whose author could else fill it with
    /// a line's work.
    fn components(&self) -> Cow<'_, Components> {
        if let Some(kept) = self.components.get() {
            return Cow::Borrowed(kept);
        }
        let mut found = Components::default();
        let text = Some(self.content()).filter(|content| content.len() <= MAX_BYTES);
        if let Some(text) = text.and_then(|content| std::str::from_utf8(content).ok()) {
            self.format.read(text.trim_start_matches('\u{feff}'), &mut found);
        }
        if found.0.len() > self.content.len() / BYTES_OF_ONE {
            return Cow::Owned(found);
        }
        Cow::Borrowed(self.components.get_or_init(|| found))
    }
}

impl Manifest {
    /// Whether a path has the name of a manifest.
    #[must_use]
    pub fn is_one(path: &[u8]) -> bool {
        Format::of(path).is_some()
    }

    /// Takes the contents of a file; `None` where its name is no manifest's.
    #[must_use]
    pub fn new(path: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) -> Option<Self> {
        let version =
            |content: Option<&[u8]>| content.and_then(|content| ManifestVersion::new(path, content));
        Self::is_one(path).then(|| Self::between(version(old).map(Arc::new), version(new).map(Arc::new)))
    }

    /// Takes the versions of a file, as far as it has them.
    #[must_use]
    pub fn between(old: Option<Arc<ManifestVersion>>, new: Option<Arc<ManifestVersion>>) -> Self {
        Self { old, new, changes: OnceLock::new() }
    }

    /// The components that changed, by name.
    #[must_use]
    pub fn changes(&self) -> &[(String, ComponentChange)] {
        self.changes
            .get_or_init(|| compare(&components(self.old.as_deref()), &components(self.new.as_deref())))
    }

    /// The contents, old and new, as far as they are there: to look for a name, which is far cheaper than to parse.
    pub fn contents(&self) -> impl Iterator<Item = &[u8]> {
        [&self.old, &self.new].into_iter().flatten().map(|version| version.content())
    }
}

fn components(version: Option<&ManifestVersion>) -> Cow<'_, Components> {
    version.map_or_else(|| Cow::Owned(Components::default()), ManifestVersion::components)
}

impl Format {
    fn of(path: &[u8]) -> Option<Self> {
        let name = path.rsplit(|byte| *byte == b'/').next()?;
        // Longer than any of these names: most paths end here.
        if name.len() > 80 {
            return None;
        }
        let name = name.to_ascii_lowercase();
        Some(match name.as_slice() {
            b"cargo.toml" => Self::CargoToml,
            b"cargo.lock" | b"poetry.lock" | b"uv.lock" | b"pdm.lock" => Self::TomlLock,
            b"pyproject.toml" => Self::Pyproject,
            b"pipfile" => Self::Pipfile,
            b"package.json" => Self::PackageJson,
            b"package-lock.json" | b"npm-shrinkwrap.json" => Self::PackageLock,
            b"packages.lock.json" => Self::NugetLock,
            b"package.resolved" => Self::SwiftResolved,
            b"pipfile.lock" => Self::PipfileLock,
            b"composer.json" => Self::ComposerJson,
            b"composer.lock" => Self::ComposerLock,
            b"gemfile" => Self::Gemfile,
            b"gemfile.lock" => Self::GemfileLock,
            b"yarn.lock" => Self::YarnLock,
            b"pnpm-lock.yaml" => Self::PnpmLock,
            b"go.mod" => Self::GoMod,
            b"podfile" => Self::Podfile,
            b"podfile.lock" => Self::PodfileLock,
            b"package.swift" => Self::PackageSwift,
            b"gradle.lockfile" => Self::GradleLock,
            b"cmakelists.txt" => Self::Cmake,
            b"pom.xml" => Self::Maven,
            b"packages.config" | b"directory.packages.props" | b"directory.build.props" => Self::Nuget,
            _ if name.ends_with(b".versions.toml") => Self::VersionCatalog,
            _ if name.ends_with(b".gradle") || name.ends_with(b".gradle.kts") => Self::Gradle,
            _ if name.ends_with(b".cmake") => Self::Cmake,
            _ if name.ends_with(b".csproj") || name.ends_with(b".fsproj") || name.ends_with(b".vbproj") => {
                Self::Nuget
            }
            _ if name.starts_with(b"dockerfile") || name.ends_with(b".dockerfile") => Self::Dockerfile,
            _ if name.ends_with(b".txt")
                && (name.starts_with(b"requirements")
                    || name.starts_with(b"constraints")
                    || path
                        .to_ascii_lowercase()
                        .ends_with(&[b"requirements/", name.as_slice()].concat())) =>
            {
                Self::Requirements
            }
            _ => return None,
        })
    }

    fn read(self, text: &str, found: &mut Components) {
        match self {
            Self::CargoToml => tables::cargo(text, found),
            Self::TomlLock => tables::toml_lock(text, found),
            Self::Pyproject => tables::pyproject(text, found),
            Self::Pipfile => tables::pipfile(text, found),
            Self::VersionCatalog => tables::version_catalog(text, found),
            Self::PackageJson => tables::package_json(text, found),
            Self::PackageLock => tables::package_lock(text, found),
            Self::NugetLock => tables::nuget_lock(text, found),
            Self::SwiftResolved => tables::swift_resolved(text, found),
            Self::PipfileLock => tables::pipfile_lock(text, found),
            Self::ComposerJson => tables::composer_json(text, found),
            Self::ComposerLock => tables::composer_lock(text, found),
            Self::Gemfile => lines::called("gem ", text, found),
            Self::GemfileLock => lines::gemfile_lock(text, found),
            Self::YarnLock => lines::yarn(text, found),
            Self::PnpmLock => lines::pnpm(text, found),
            Self::GoMod => lines::go_mod(text, found),
            Self::Requirements => lines::requirements(text, found),
            Self::Podfile => lines::called("pod ", text, found),
            Self::PodfileLock => lines::podfile_lock(text, found),
            Self::GradleLock => lines::gradle_lock(text, found),
            Self::Dockerfile => lines::dockerfile(text, found),
            Self::PackageSwift => script::package_swift(text, found),
            Self::Gradle => script::gradle(text, found),
            Self::Cmake => script::cmake(text, found),
            Self::Maven => xml::maven(text, found),
            Self::Nuget => xml::nuget(text, found),
        }
    }
}

/// Names with their versions; an empty version where none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Components(BTreeMap<String, BTreeSet<String>>);

impl Components {
    fn add(&mut self, name: impl Into<String>, version: impl Into<String>) {
        let name = name.into();
        if !name.is_empty() {
            self.0.entry(name).or_default().insert(version.into());
        }
    }
}

fn compare(old: &Components, new: &Components) -> Vec<(String, ComponentChange)> {
    let none = BTreeSet::new();
    let change = |old: &BTreeSet<String>, new: &BTreeSet<String>| {
        if old == new {
            return None;
        }
        match (old.difference(new).last(), new.difference(old).last()) {
            (None, None) => None,
            (None, Some(_)) => Some(ComponentChange::Added),
            (Some(_), None) => Some(ComponentChange::Removed),
            (Some(old), Some(new)) => Some(moved(old, new)),
        }
    };
    let come =
        new.0.iter().filter(|(name, _)| !old.0.contains_key(*name)).map(|(name, new)| (name, &none, new));
    let there = old.0.iter().map(|(name, old)| (name, old, new.0.get(name).unwrap_or(&none)));
    let mut changes: Vec<_> =
        there.chain(come).filter_map(|(name, old, new)| Some((name.clone(), change(old, new)?))).collect();
    changes.sort_unstable();
    changes
}

/// How far a version moved, by its first numbers: `^1.2.3`, `v1.2.3` and `>=1.2.3,<2` all begin with 1, 2.
fn moved(old: &str, new: &str) -> ComponentChange {
    let numbers = |version: &str| -> Option<(u64, u64)> {
        let version = version.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let end = version.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
        let mut parts = version[..end.unwrap_or(version.len())].split('.');
        // A number of nine digits is a date or a hash.
        let first = parts.next().filter(|first| first.len() < 9)?.parse().ok()?;
        Some((first, parts.next().and_then(|second| second.parse().ok()).unwrap_or(0)))
    };
    // What is not a number, such as a branch or a hash of a commit, could be anything.
    let numbered = |version: &str| version.len() < 40 || version.contains('.');
    match (numbers(old), numbers(new)) {
        (Some(old_numbers), Some(new_numbers)) if numbered(old) && numbered(new) => {
            if old_numbers.0 != new_numbers.0 {
                ComponentChange::Major
            } else if old_numbers.1 != new_numbers.1 {
                ComponentChange::Minor
            } else {
                ComponentChange::Patch
            }
        }
        _ => ComponentChange::Major,
    }
}

#[cfg(test)]
mod tests;
