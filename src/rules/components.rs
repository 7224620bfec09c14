//! Selections of components: which changed, of those that a rule names.

use std::borrow::Cow;

use super::rule::Selection;
use crate::facts::ChangedFile;
use crate::literals::Literals;

/// Literals one of which stands in the text of every manifest with a component that one of the patterns matches; none
/// where there is no pattern, or one without such a part. A name is put together of words of the manifest, so the
/// longest run without a sign counts.
fn fixed_parts(globs: &[String]) -> Option<Literals> {
    let longest = |glob: &String| {
        let parts = glob.split(|letter: char| !letter.is_ascii_alphanumeric());
        let longest = parts.max_by_key(|part| part.len()).unwrap_or_default();
        (longest.len() >= 3 && !glob.contains(['[', '{', '\\']))
            .then(|| Cow::Owned(longest.to_ascii_lowercase()))
    };
    let mut parts: Vec<Cow<'static, str>> = globs.iter().map(longest).collect::<Option<_>>()?;
    parts.sort();
    parts.dedup();
    (!parts.is_empty()).then(|| Literals::new(parts))
}

fn occurs(literals: &Literals, text: &[u8]) -> bool {
    let mut any = false;
    literals.search(text, |_, _| any = true);
    any
}

/// What is needed to ask for components.
pub(super) struct Packages {
    /// What a manifest must hold to be worth parsing.
    parts: Option<Literals>,
    globs: Vec<String>,
}

impl Packages {
    pub(super) fn new(globs: &[String]) -> Self {
        // `/` divides folders for a glob, but not the parts of a name.
        let lower = globs.iter().map(|glob| glob.to_ascii_lowercase().replace('/', ":")).collect();
        Self { parts: fixed_parts(globs), globs: lower }
    }
}

/// How many components that the selection names changed as it says; none where that is too few.
pub(super) fn changed(selection: &Selection, packages: &Packages, file: &ChangedFile) -> Option<u32> {
    let named = |name: &str| {
        let whole = name.to_ascii_lowercase().replace('/', ":");
        let last = whole.rsplit(':').next().unwrap_or_default();
        let fits = |glob: &String, name: &str| fast_glob::glob_match(glob, name.as_bytes());
        packages.globs.iter().any(|glob| fits(glob, &whole) || fits(glob, last))
    };
    let manifest = file.manifest.as_ref()?;
    if packages.parts.as_ref().is_some_and(|parts| !manifest.contents().any(|content| occurs(parts, content)))
    {
        return None;
    }
    let wanted = manifest.changes().iter().filter(|(name, change)| {
        (selection.change.is_empty() || selection.change.iter().any(|word| word == change.name()))
            && (selection.package.is_empty() || named(name))
    });
    let count = u32::try_from(wanted.count()).unwrap_or(u32::MAX);
    (count >= selection.min_count.unwrap_or(1)).then_some(count)
}
