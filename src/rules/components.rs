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
    names: Vec<NameGlob>,
}

/// A glob for a name, most of which are plain but for the stars at their ends.
enum NameGlob {
    Plain(String),
    Begin(String),
    End(String),
    Part(String),
    Other(String),
}

impl NameGlob {
    fn new(glob: &str) -> Self {
        // `/` divides folders for a glob, but not the parts of a name.
        let glob = glob.to_ascii_lowercase().replace('/', ":");
        let (begin, end) = (glob.strip_prefix('*'), glob.strip_suffix('*'));
        let part = glob.trim_matches('*');
        if part.len() + 2 < glob.len() || part.contains(['*', '?', '[', ']', '{', '}', '\\', '!']) {
            return Self::Other(glob);
        }
        let part = part.to_owned();
        match (begin.is_some(), end.is_some()) {
            (false, false) => Self::Plain(part),
            (false, true) => Self::Begin(part),
            (true, false) => Self::End(part),
            (true, true) => Self::Part(part),
        }
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Plain(whole) => name == whole,
            Self::Begin(part) => name.starts_with(part.as_str()),
            Self::End(part) => name.ends_with(part.as_str()),
            Self::Part(part) => memchr::memmem::find(name.as_bytes(), part.as_bytes()).is_some(),
            Self::Other(glob) => fast_glob::glob_match(glob, name),
        }
    }
}

impl Packages {
    pub(super) fn new(globs: &[String]) -> Self {
        Self { parts: fixed_parts(globs), names: globs.iter().map(|glob| NameGlob::new(glob)).collect() }
    }
}

/// How many components that the selection names changed as it says; none where that is too few.
pub(super) fn changed(selection: &Selection, packages: &Packages, file: &ChangedFile) -> Option<u32> {
    let named = |name: &str| {
        let whole = name.to_ascii_lowercase().replace('/', ":");
        let last = whole.rsplit(':').next().unwrap_or_default();
        packages.names.iter().any(|glob| glob.fits(&whole) || glob.fits(last))
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

#[cfg(test)]
mod tests {
    use super::NameGlob;

    proptest::proptest! {
        #[test]
        fn names_match_as_the_library_says(
            glob in "\\*{0,2}[aB./]{0,3}(\\*{1,2}|\\?|\\{a,b\\}|\\[ab\\])?[aB]?\\*{0,2}",
            name in "[ab.:]{0,6}",
        ) {
            let lower = glob.to_ascii_lowercase().replace('/', ":");
            let expected = fast_glob::glob_match(&lower, &name);
            proptest::prop_assert_eq!(NameGlob::new(&glob).fits(&name), expected, "{} {}", glob, name);
        }
    }
}
