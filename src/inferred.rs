//! The class that a repository's tree speaks for, kept so that a hook need not look twice.
//!
//! First the face of the commit's own tree (`capture::Face`), which makes the result a function of the commit;
//! where that says little or nothing, what a closer look at all paths of the current tip found. The closer look is taken by
//! commands ([`Inferred::look_closely`]), and kept with the last face in `gitops-agent/class.json` of the
//! repository's common Git folder: then a hook reads that one small file, and no readme. A file that is absent,
//! broken or of another version of the words is as none.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::capture::{CommitId, Repo};
use crate::hints;
use crate::rules::{Class, INFERENCE, Inference, infer_from_face, infer_from_paths};

/// Faces that are remembered in one process: a history has a few hundred.
const MAX_FACES: usize = 10_000;

/// Where it is kept; a larger one is none of ours.
const FILE: &str = "class.json";
const MAX_BYTES: u64 = 64 << 10;

/// What is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// The last face and the class that it speaks for.
    face: String,
    seen: Seen,
    /// What the closer look found: none where it was not taken.
    tree: Option<Seen>,
}

/// What a look found; `unknown` is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    class: Class,
    sure: bool,
    reasons: Vec<String>,
}

impl Seen {
    fn new(found: Option<&Inference>) -> Self {
        found.map_or_else(Self::default, |found| Self {
            class: found.class,
            sure: found.sure,
            reasons: found.reasons.clone(),
        })
    }

    fn inference(&self) -> Option<Inference> {
        (self.class != Class::Unknown).then(|| Inference {
            class: self.class,
            sure: self.sure,
            reasons: self.reasons.clone(),
        })
    }
}

/// What was inferred for the commits of one repository.
#[derive(Debug, Default)]
pub struct Inferred {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the disk had, once looked at.
    on_disk: Option<Kept>,
    now: Kept,
    faces: HashMap<String, Seen>,
}

impl Inferred {
    /// The class that a commit's tree speaks for, with reasons; none where nothing speaks.
    #[must_use]
    pub fn class(&self, repo: &Repo, id: &CommitId) -> Option<Inference> {
        // Read before the lock is taken: the threads of a backfill share it.
        let face = repo.face(id).ok()?;
        let mut state = self.open(repo);
        if state.now.face != face.id {
            let known = state.faces.get(&face.id).cloned();
            state.now.seen = known.unwrap_or_else(|| {
                let texts = repo.face_texts(&face).unwrap_or_default();
                let seen = Seen::new(infer_from_face(&face.names, &texts).as_ref());
                if state.faces.len() < MAX_FACES {
                    state.faces.insert(face.id.clone(), seen.clone());
                }
                seen
            });
            state.now.face = face.id;
        }
        let tree = || state.now.tree.as_ref()?.inference();
        match state.now.seen.inference() {
            Some(seen) if seen.sure => Some(seen),
            seen => tree().or(seen),
        }
    }

    /// Looks at all paths of the current tip, unless that was done before and kept.
    pub fn look_closely(&self, repo: &Repo) {
        let mut state = self.open(repo);
        if state.now.tree.is_none() {
            state.look(repo);
        }
    }

    /// Looks at all paths again, whatever is kept.
    pub fn look_again(&self, repo: &Repo) {
        self.open(repo).look(repo);
    }

    /// Keeps what was found for the next hook, where it is new. Best effort: without it the next hook looks itself.
    pub fn keep(&self, repo: &Repo) {
        let mut state = self.open(repo);
        if state.on_disk.as_ref() == Some(&state.now) {
            return;
        }
        let Ok(content) = serde_json::to_vec(&state.now) else { return };
        if hints::write(repo.common_dir(), FILE, &content).is_ok() {
            state.on_disk = Some(state.now.clone());
        }
    }

    /// The state, with what is on the disk read at first.
    fn open(&self, repo: &Repo) -> MutexGuard<'_, State> {
        // A thread that panicked left whole values behind.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.on_disk.is_none() {
            let read = hints::read(repo.common_dir(), FILE, MAX_BYTES);
            let kept = read.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
            state.now = kept
                .filter(|kept| kept.version == INFERENCE)
                .unwrap_or(Kept { version: INFERENCE, ..Kept::default() });
            state.on_disk = Some(state.now.clone());
        }
        state
    }
}

impl State {
    fn look(&mut self, repo: &Repo) {
        let Ok(Some(tip)) = repo.head() else { return };
        let found = repo.paths(&tip).ok().and_then(|paths| infer_from_paths(&paths));
        self.now.tree = Some(Seen::new(found.as_ref()));
    }
}

/// Removes what is kept, when the hooks are taken out.
pub fn forget(repo: &Repo) {
    hints::forget(repo.common_dir(), FILE);
}
