//! Which allowance covers what a rule found: its own, the repository's, or one in the text.

use super::carried::{self, any_glob};
use super::lines::line_of;
use super::pattern::Pattern;
use super::rule::Allow;
use super::selection::{Commit, Compiled, Found};
use super::{Allowed, Side};
use crate::facts::ChangedFile;

impl Compiled {
    /// The allowance that covers every hit of a finding, if it has not run out on the commit's day.
    pub(super) fn allowed(
        &self,
        file: Option<&ChangedFile>,
        found: &Found,
        commit: &Commit<'_>,
    ) -> Option<Allowed> {
        if self.allow.is_empty() && commit.carried.allow.is_empty() && !commit.has_inline() {
            return None;
        }
        let day = commit.day();
        let covers = |allow: &Allow, pattern: &Pattern| {
            let path = allow.path.is_empty() || file.is_some_and(|file| any_glob(&allow.path, &file.path));
            let lines = allow.regex.is_empty() || {
                let side =
                    file.map(
                        |file| if found.side == Side::Added { &file.text.added } else { &file.text.removed },
                    );
                side.is_some_and(|side| {
                    !found.lines.is_empty()
                        && found.lines.iter().all(|index| pattern.is_match(line_of(side, *index)))
                })
            };
            path && lines && day <= allow.until
        };
        let allow = self.rule.allow.iter().zip(&self.allow).find(|(allow, pattern)| covers(allow, pattern));
        let own = allow.map(|(allow, _)| Allowed {
            reason: allow.reason.clone(),
            owner: allow.owner.clone(),
            until: allow.until.clone(),
        });
        own.or_else(|| commit.carried.allowed(&self.rule.id, file.map(|file| &file.path), &day))
            .or_else(|| self.allowed_inline(file?, found, &day))
    }

    /// The allowance in the text: for added lines one on each of them or on the added line before, for anything
    /// else one in any added line of the file.
    fn allowed_inline(&self, file: &ChangedFile, found: &Found, day: &str) -> Option<Allowed> {
        let added = &file.text.added;
        let here = |index: usize| {
            let (rule, allowed) = carried::inline(line_of(added, index))?;
            allowed.filter(|allowed| rule == self.rule.id && day <= allowed.until.as_str())
        };
        if found.side != Side::Added {
            return (0..added.lines.len()).find_map(here);
        }
        let before = |index: usize| {
            let (before, line) = (added.lines.get(index.checked_sub(1)?)?, added.lines.get(index)?);
            (before.number + 1 == line.number).then(|| here(index - 1))?
        };
        let all: Option<Vec<Allowed>> =
            found.lines.iter().map(|index| here(*index).or_else(|| before(*index))).collect();
        all?.into_iter().next()
    }
}
