//! The change feed, in the service's mode "latest version": each document that was created or replaced comes at
//! least once after its last change, in order within its logical partition. A document that is replaced twice
//! between two looks comes once; that one ended (its time to live, or somebody with another role) is not told.
//!
//! The scope is the tenant's part of the key, and each document's tenant is looked at once more. Ranges of the key are
//! asked in turn, one a page; whether nothing is left is known after as many empty pages in a row as there are
//! ranges. The cursor is the SDK's continuation token: it names the container, and the place in each range, and it
//! survives splits. A page costs some 2 RU where it is empty.
//!
//! The SDK forgets whose turn it is when it opens a feed anew, so one feed stays open for as long as it works.

use std::sync::Arc;

use azure_data_cosmos::diagnostics::DiagnosticsContext;
use azure_data_cosmos::feed::{ChangeFeedPageIterator, ContinuationToken};
use azure_data_cosmos::models::ChangeFeedItem;
use azure_data_cosmos::options::{ChangeFeedOptions, ChangeFeedStartFrom, MaxItemCountHint};
use azure_data_cosmos::{CosmosError, FeedScope, PartitionKey};
use futures::StreamExt as _;
use serde_json::Value;

use super::errors::{self, Operation};
use super::{CosmosStore, strip};
use crate::store::{Changes, Charged, FOREIGN_CURSOR, Page, StoreError};

/// Most documents in a page.
const PAGE: std::num::NonZeroU32 = std::num::NonZeroU32::new(100).unwrap();

/// See [`crate::store::Store::changes`].
pub(super) struct Feed<'a> {
    store: &'a CosmosStore,
    tenant: String,
    /// Behind the last page that was given.
    cursor: Option<String>,
    open: Option<Open>,
    /// Empty pages in a row.
    empty: usize,
}

struct Open {
    pages: ChangeFeedPageIterator<ChangeFeedItem<Value>>,
    ranges: usize,
}

impl CosmosStore {
    pub(super) fn feed(&self, tenant: &str, after: Option<&str>) -> Feed<'_> {
        let cursor = after.map(str::to_owned);
        Feed { store: self, tenant: tenant.to_owned(), cursor, open: None, empty: 0 }
    }
}

impl Open {
    async fn new(store: &CosmosStore, tenant: &str, cursor: Option<&str>) -> Result<Self, StoreError> {
        let opened = store.run(Operation::Query, async {
            let container = store.container().await?;
            let key = PartitionKey::from(tenant.to_owned());
            let ranges = container.feed_range_from_partition_key(key.clone(), None).await?.len();
            let mut options = ChangeFeedOptions::default().with_max_item_count(MaxItemCountHint::Limit(PAGE));
            if let Some(cursor) = cursor {
                options = options.with_continuation_token(ContinuationToken::from_string(cursor.to_owned()));
            }
            let start = ChangeFeedStartFrom::Beginning;
            let pages =
                match container.query_change_feed(FeedScope::partition(key), start, Some(options)).await {
                    Ok(pages) => pages,
                    // Ranges are known by now, so nobody was asked: it is the SDK that cannot read its own token.
                    Err(error) if cursor.is_some() && !error.is_from_wire() && unreadable(&error) => {
                        return Err(foreign(&error.to_string()).into());
                    }
                    Err(error) => return Err(error.into()),
                };
            Ok((Self { pages, ranges }, None::<Arc<DiagnosticsContext>>))
        });
        Ok(opened.await?.value)
    }
}

/// Of another container, or of another shape; not a failure to reach anybody.
fn unreadable(error: &CosmosError) -> bool {
    matches!(u16::from(error.status().status_code()), 400 | 500)
}

fn foreign(why: &str) -> StoreError {
    errors::refused(FOREIGN_CURSOR, &format!("the cursor is not one of this container: {why}"))
}

#[async_trait::async_trait]
impl Changes for Feed<'_> {
    async fn next(&mut self) -> Result<Charged<Page>, StoreError> {
        // Taken out: one that has failed, or was dropped on its way, is opened anew behind the last page.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::new(self.store, &self.tenant, self.cursor.as_deref()).await?,
        };
        let read = self.store.run(Operation::Query, async {
            let page = open.pages.next().await.transpose()?;
            let diagnostics = page.as_ref().map(|page| page.diagnostics());
            let token = open.pages.to_continuation_token()?;
            Ok(((page, token), diagnostics))
        });
        let Charged { value: (page, token), cost } = match read.await {
            // Beside the cursor the request has nothing in it that could be wrong.
            Err(error) if error.status == Some(400) && self.cursor.is_some() => {
                return Err(StoreError { cost: error.cost, ..foreign(&error.message) });
            }
            read => read?,
        };
        let mut documents: Vec<Value> = Vec::new();
        for item in page.iter().flat_map(|page| page.items()) {
            if let Some(document) = item.current() {
                let mut document = document.clone();
                strip(&mut document);
                documents.push(document);
            }
        }
        documents.retain(|document| document["tenantId"] == self.tenant.as_str());
        self.empty = if documents.is_empty() { self.empty + 1 } else { 0 };
        let caught_up = self.empty >= open.ranges.max(1);
        if caught_up {
            self.empty = 0;
        }
        let cursor = token.as_str().to_owned();
        self.cursor = Some(cursor.clone());
        self.open = Some(open);
        Ok(Charged { value: Page { documents, cursor, caught_up }, cost })
    }
}
