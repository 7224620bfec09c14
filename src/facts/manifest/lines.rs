//! Manifests of one component a line, and lock files whose lines say all that is needed.

use super::Components;

/// Name and range of a Python requirement (PEP 508): `name[extra] >=1.2 ; marker`.
pub(super) fn requirement(line: &str, found: &mut Components) {
    let line = line.split(" #").next().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if line.is_empty() || line.starts_with(['#', '-', '.', '/']) {
        return;
    }
    let end = line.find(|letter: char| !letter.is_ascii_alphanumeric() && !"-_.".contains(letter));
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let range = match rest.split_once(']') {
        Some((extra, range)) if extra.starts_with('[') => range,
        _ => rest,
    };
    // `--hash=…` stands behind the version in locked files.
    let range = range.split(" --").next().unwrap_or_default().trim().trim_end_matches('\\').trim();
    // Names are compared so (PEP 503).
    found.add(name.to_ascii_lowercase().replace(['_', '.'], "-"), range.trim_matches(['(', ')']).trim());
}

pub(super) fn requirements(text: &str, found: &mut Components) {
    text.lines().for_each(|line| requirement(line, found));
}

/// `name@range, name@range:` and below it the version.
pub(super) fn yarn(text: &str, found: &mut Components) {
    let mut name = String::new();
    for line in text.lines() {
        if line.starts_with(['#', ' ']) || line.is_empty() {
            let version = line.trim().strip_prefix("version").filter(|_| line.starts_with("  ver"));
            if let Some(version) = version.filter(|_| !name.is_empty()) {
                found.add(std::mem::take(&mut name), version.trim_matches([' ', ':', '"']));
            }
            continue;
        }
        let first = line.trim_matches(['"', ':']).split(", ").next().unwrap_or_default().trim_matches('"');
        let workspace = first.contains("@workspace:");
        // The first letter can be the `@` of a scope.
        let end = first.char_indices().skip(1).find(|(_, letter)| *letter == '@').map(|(at, _)| at);
        name = end.filter(|_| !workspace).map_or_else(String::new, |end| first[..end].to_owned());
    }
    found.0.remove("__metadata");
}

/// Keys of `packages:`: `/name/1.2.3:`, `/name@1.2.3:` or `name@1.2.3(peer@4):`.
pub(super) fn pnpm(text: &str, found: &mut Components) {
    let mut inside = false;
    for line in text.lines() {
        if !line.starts_with(' ') && !line.trim().is_empty() {
            inside = line.starts_with("packages:");
        }
        let key = line.strip_prefix("  ").filter(|key| inside && !key.starts_with(' '));
        let Some(key) = key.and_then(|key| key.trim_end().trim_matches('\'').strip_suffix(':')) else {
            continue;
        };
        let key = key.trim_matches('\'').trim_start_matches('/');
        let key = key.split('(').next().unwrap_or_default();
        let at = key.char_indices().skip(1).filter(|(_, letter)| *letter == '@').map(|(at, _)| at).last();
        if let Some(at) = at.or_else(|| key.rfind('/')) {
            found.add(&key[..at], &key[at + 1..]);
        }
    }
}

/// `require` and `replace`, in blocks or alone.
pub(super) fn go_mod(text: &str, found: &mut Components) {
    let mut block = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let mut words = line.split_whitespace();
        let directive = if block.is_empty() { words.next().unwrap_or_default() } else { block.as_str() };
        let rest: Vec<&str> = words.collect();
        match (directive, rest.as_slice()) {
            (_, [")"]) => block.clear(),
            ("require", [module, version]) => found.add(*module, *version),
            ("replace", [module, .., "=>", path, version]) => found.add(*module, format!("{version} {path}")),
            (directive, ["("]) if block.is_empty() => block = directive.to_owned(),
            _ => {}
        }
    }
}

/// `pod 'Name', '~> 1.2'` and `gem "name", "~> 1.2"`.
pub(super) fn called(call: &str, text: &str, found: &mut Components) {
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix(call) else { continue };
        let mut quoted = rest.split(['\'', '"']).skip(1).step_by(2);
        let name = quoted.next().unwrap_or_default();
        found.add(name, quoted.next().unwrap_or_default());
    }
}

/// `    name (1.2.3)` below `specs:`; what is indented further is what the gem asks for.
pub(super) fn gemfile_lock(text: &str, found: &mut Components) {
    for line in text.lines() {
        let gem = line.strip_prefix("    ").filter(|gem| !gem.starts_with(' '));
        if let Some((name, version)) = gem.and_then(|gem| gem.split_once(" (")) {
            found.add(name, version.trim_end_matches(')'));
        }
    }
}

/// `  - Name (1.2.3)` below `PODS:`; what is indented further is what the pod asks for.
pub(super) fn podfile_lock(text: &str, found: &mut Components) {
    let pods =
        text.lines().skip_while(|line| *line != "PODS:").skip(1).take_while(|line| line.starts_with(' '));
    for line in pods {
        let pod = line.strip_prefix("  - ").map(|pod| pod.trim_matches(['"', ':']));
        if let Some((name, version)) = pod.and_then(|pod| pod.split_once(" (")) {
            found.add(name, version.trim_end_matches([')', ':', '"']));
        }
    }
}

/// `group:artifact:version=configurations`.
pub(super) fn gradle_lock(text: &str, found: &mut Components) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let coordinates = line.split('=').next().unwrap_or_default();
        if let Some((name, version)) = coordinates.rsplit_once(':') {
            found.add(name, version);
        }
    }
}

/// Base images; stages that other stages build on are none.
pub(super) fn dockerfile(text: &str, found: &mut Components) {
    let mut stages = vec!["scratch".to_owned()];
    for line in text.lines() {
        let mut words = line.split_whitespace().filter(|word| !word.starts_with("--"));
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("from")) {
            continue;
        }
        let Some(image) = words.next() else { continue };
        if !stages.contains(&image.to_ascii_lowercase()) {
            let (image, digest) = image.split_once('@').unwrap_or((image, ""));
            // A colon before the last slash is the port of a registry.
            let tag = image.rfind(':').filter(|at| !image[*at..].contains('/'));
            let (name, tag) = tag.map_or((image, ""), |at| (&image[..at], &image[at + 1..]));
            found.add(name, if tag.is_empty() { digest } else { tag });
        }
        if words.next().is_some_and(|word| word.eq_ignore_ascii_case("as")) {
            stages.extend(words.next().map(str::to_ascii_lowercase));
        }
    }
}
