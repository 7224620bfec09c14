//! One record, one store: create; where something is, read, compare, and replace under `If-Match`.
//!
//! Never an upsert: it would restart the time to live of a document that says the same, and let two
//! agents overwrite each other for ever.

use serde_json::Value;

use crate::judgement::{Meeting, meet};
use crate::outbox::Waiting;
use crate::store::{Charged, Cost, ErrorClass, Key, Store, StoreError};

/// How often a document that changes under our hands is read again before the record goes back into
/// the queue.
const TRIES: u32 = 5;

/// What became of a record.
#[derive(Debug)]
pub(super) enum Said {
    /// The store did not have it.
    Created,
    /// The store had it, or a later judgement.
    Present,
    /// Ours was the later judgement.
    Replaced,
    /// Theirs stays, with links that ours brought.
    Merged,
    /// Not now, or never.
    Failed(StoreError),
}

/// One record's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) waiting: Waiting,
    pub(super) said: Said,
    pub(super) costs: Vec<Cost>,
}

/// Sends records, in one operation where the store takes several.
pub(super) async fn send(store: &dyn Store, batch: Vec<Waiting>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(batch.len());
    let mut sound = Vec::with_capacity(batch.len());
    let mut documents = Vec::with_capacity(batch.len());
    for waiting in batch {
        match serde_json::from_slice::<Value>(&waiting.body) {
            Ok(document) if document.is_object() => {
                documents.push((key_of(&waiting), document));
                sound.push(waiting);
            }
            Ok(_) => answers.push(refuse(waiting, "the queued record is not a JSON object".to_owned())),
            Err(error) => answers.push(refuse(waiting, format!("the queued record is damaged: {error}"))),
        }
    }
    let said = put(store, &documents).await;
    answers.extend(sound.into_iter().zip(said).map(|(waiting, (said, costs))| Answer {
        waiting,
        said,
        costs,
    }));
    answers
}

/// Brings documents into the store, in one operation where it takes several; for each, in order, what became of it and
/// what its requests cost.
pub(super) async fn put(store: &dyn Store, documents: &[(Key, Value)]) -> Vec<(Said, Vec<Cost>)> {
    let created = match documents {
        [] => Vec::new(),
        [(key, document)] => vec![store.create(key, document).await],
        several => store.create_many(several).await,
    };
    let mut answers = Vec::with_capacity(documents.len());
    for ((key, document), result) in documents.iter().zip(created) {
        let mut costs = Vec::new();
        let said = match result {
            Ok(Charged { cost, .. }) => {
                costs.push(cost);
                Said::Created
            }
            Err(error) if error.class == ErrorClass::Exists => {
                costs.push(error.cost);
                settle_with(store, key, document, &mut costs).await
            }
            Err(error) => {
                costs.push(error.cost);
                Said::Failed(error)
            }
        };
        answers.push((said, costs));
    }
    answers
}

fn key_of(waiting: &Waiting) -> Key {
    Key { tenant: waiting.tenant.clone(), date: waiting.date.clone(), id: waiting.id.clone() }
}

fn refuse(waiting: Waiting, message: String) -> Answer {
    let error = StoreError::new(ErrorClass::Refused, "damaged-record", message);
    Answer { waiting, said: Said::Failed(error), costs: Vec::new() }
}

/// Comes to terms with the document that is there.
async fn settle_with(store: &dyn Store, key: &Key, ours: &Value, costs: &mut Vec<Cost>) -> Said {
    let mut last = String::new();
    for _ in 0..TRIES {
        match attempt(store, key, ours, costs).await {
            Ok(said) => return said,
            Err(error) => {
                costs.push(error.cost);
                if !matches!(error.class, ErrorClass::Changed | ErrorClass::Exists) {
                    return Said::Failed(error);
                }
                last = error.message;
            }
        }
    }
    let message = format!("the document of commit {} keeps changing while it is compared: {last}", key.id);
    Said::Failed(StoreError::new(ErrorClass::Again, "contended", message))
}

async fn attempt(
    store: &dyn Store,
    key: &Key,
    ours: &Value,
    costs: &mut Vec<Cost>,
) -> Result<Said, StoreError> {
    let read = store.read(key).await?;
    costs.push(read.cost);
    let Some(theirs) = read.value else {
        // It expired or was removed since the create.
        costs.push(store.create(key, ours).await?.cost);
        return Ok(Said::Created);
    };
    match meet(ours, &theirs.document) {
        Ok(Meeting::Leave) => Ok(Said::Present),
        Ok(Meeting::Put { document, ours }) => {
            costs.push(store.replace(key, &document, &theirs.etag).await?.cost);
            Ok(if ours { Said::Replaced } else { Said::Merged })
        }
        Err(error) => Err(StoreError::new(
            ErrorClass::Refused,
            "foreign-document",
            format!("the store has something under this commit's id that is no record: {error}"),
        )),
    }
}
