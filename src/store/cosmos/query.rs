//! Queries: the SQL, its parameters, and the reading of pages.
//!
//! The scope is always the tenant's part of the key, so a query reaches only partitions that hold this tenant:
//! a range of up to `SHORT_RANGE` days is asked day by day, newest first, each a logical partition; a longer one by
//! the tenant's prefix; one commit of one day is a point read. Every value travels as a parameter.
//!
//! Rule, citation, path and author are not indexed (`store::Query::admits`): the statement narrows what comes over
//! the wire where the service's SQL can say it, and the rest is looked at here. They cost what the documents of
//! the range cost.
//!
//! Order is by `timestamp` alone on the server: `commitDate` is its first ten characters, so newest date
//! first, then newest time, is the same order, and one range index serves it. Documents of the same second
//! are put in the order of their ids here.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use azure_data_cosmos::diagnostics::DiagnosticsContext;
use azure_data_cosmos::options::{MaxItemCountHint, QueryOptions};
use azure_data_cosmos::{FeedScope, Query as Sql};
use futures::StreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::errors::{self, Operation};
use super::{CosmosStore, Failure, strip};
use crate::store::{Charged, Cost, Key, Query, Sink, Store as _, StoreError, StoredKey};

/// A page for a query with a limit has at most so many documents.
const MAX_PAGE: usize = 100;
/// A page for one without: what is held in memory is bounded whatever the service would send at once, and some 1.5 MB
/// come over a slow line in the 6 s that the SDK gives a request.
const WHOLE_PAGE: usize = 500;
/// The shortest prefix of a commit id that is looked up.
const MIN_PREFIX: usize = 4;

/// The longest range that is asked day by day. Each day costs a request of some 3 RU even where it is empty, and so
/// does a request by prefix in each physical partition that holds the tenant: a few days are cheaper only where
/// the tenant has spread.
const SHORT_RANGE: usize = 3;

/// What a range of days means: its conditions, and where to look.
#[derive(Clone, Copy)]
struct Range<'a> {
    tenant: &'a str,
    since: Option<&'a str>,
    until: Option<&'a str>,
}

/// The days of a short range, newest first; `None` where it is long, open, or no range of days.
fn short(since: Option<&str>, until: Option<&str>) -> Option<Vec<String>> {
    let since: jiff::civil::Date = since?.parse().ok()?;
    let until: jiff::civil::Date = until?.parse().ok()?;
    let mut days = Vec::new();
    let mut day = until;
    while day >= since {
        if days.len() == SHORT_RANGE {
            return None;
        }
        days.push(day.to_string());
        day = day.yesterday().ok()?;
    }
    Some(days)
}

/// The key, where the query is about one commit whose day is known.
fn point(query: &Query) -> Option<Key> {
    let (day, commit) = (query.since.as_ref()?, query.commit.as_deref()?);
    let whole = matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let alone = query.until.as_ref() == Some(day) && query.min_risk.is_none() && query.tags.is_empty();
    (whole && alone).then(|| Key {
        tenant: query.tenant.clone(),
        date: day.clone(),
        id: commit.to_ascii_lowercase(),
    })
}

impl Range<'_> {
    fn scope(&self) -> FeedScope {
        match (self.since, self.until) {
            (Some(since), Some(until)) if since == until => {
                FeedScope::partition((self.tenant.to_owned(), since.to_owned()))
            }
            _ => FeedScope::partition(self.tenant.to_owned()),
        }
    }

    /// `SELECT … WHERE` this tenant and these days.
    fn select(&self, projection: &str) -> Result<Sql, Failure> {
        let mut sql = Sql::from(format!("SELECT {projection} FROM c WHERE c.tenantId = @tenant"))
            .with_parameter("@tenant", self.tenant)?;
        if let Some(since) = self.since {
            sql = sql.append_text(" AND c.commitDate >= @since").with_parameter("@since", since)?;
        }
        if let Some(until) = self.until {
            sql = sql.append_text(" AND c.commitDate <= @until").with_parameter("@until", until)?;
        }
        Ok(sql)
    }
}

/// The whole statement for a query.
fn statement(query: &Query, range: &Range<'_>) -> Result<Sql, Failure> {
    let mut sql = range.select("*")?;
    if let Some(least) = query.min_risk {
        sql = sql.append_text(" AND c.riskScore >= @risk").with_parameter("@risk", least)?;
    }
    for (number, tag) in query.tags.iter().enumerate() {
        let name = format!("@tag{number}");
        sql = sql
            .append_text(&format!(" AND ARRAY_CONTAINS(c.compliance, {name})"))
            .with_parameter(name, tag)?;
    }
    if let Some(commit) = &query.commit {
        sql = match commit_id(commit)? {
            id if id.len() == 40 || id.len() == 64 => {
                sql.append_text(" AND c.id = @commit").with_parameter("@commit", id)?
            }
            prefix => sql.append_text(" AND STARTSWITH(c.id, @commit)").with_parameter("@commit", prefix)?,
        };
    }
    if let Some(level) = &query.level {
        sql = sql.append_text(" AND c.riskLevel = @level").with_parameter("@level", level)?;
    }
    if query.rule.is_some() || query.citation.is_some() {
        sql = sql.append_text(" AND ARRAY_LENGTH(c.findings) > 0");
    }
    Ok(sql.append_text(" ORDER BY c.timestamp DESC"))
}

/// A commit id or the beginning of one, in the form in which ids are stored.
fn commit_id(text: &str) -> Result<String, StoreError> {
    if text.len() >= MIN_PREFIX && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    let message = format!("{text:?} is no commit id: give at least {MIN_PREFIX} hexadecimal digits of it");
    Err(errors::refused("bad-query", &message))
}

/// Puts documents of the same second in the order of their ids, and stops at the limit or when the
/// receiver has had enough.
struct Ordered<'a> {
    sink: Sink<'a>,
    left: usize,
    same_second: Vec<Value>,
}

impl Ordered<'_> {
    /// Takes the next document in the server's order; `false` ends the query.
    fn push(&mut self, document: Value) -> bool {
        let another =
            self.same_second.first().is_some_and(|first| first["timestamp"] != document["timestamp"]);
        let goes_on = !another || self.flush();
        self.same_second.push(document);
        goes_on
    }

    fn flush(&mut self) -> bool {
        self.same_second.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
        for document in self.same_second.drain(..) {
            if self.left == 0 || !(self.sink)(document) {
                self.left = 0;
                return false;
            }
            self.left -= 1;
        }
        self.left > 0
    }
}

impl CosmosStore {
    pub(super) async fn select(&self, query: &Query, sink: Sink<'_>) -> Result<Charged<()>, StoreError> {
        if query.limit == Some(0) {
            return Ok(Charged { value: (), cost: Cost::default() });
        }
        if let Some(key) = point(query) {
            let found = self.read(&key).await?;
            if let Some(stored) = found.value.filter(|stored| query.admits(&stored.document)) {
                sink(stored.document);
            }
            return Ok(Charged { value: (), cost: found.cost });
        }
        let whole =
            Range { tenant: &query.tenant, since: query.since.as_deref(), until: query.until.as_deref() };
        let days = short(whole.since, whole.until);
        let ranges: Vec<Range<'_>> = match &days {
            Some(days) => {
                days.iter().map(|day| Range { since: Some(day), until: Some(day), ..whole }).collect()
            }
            None => vec![whole],
        };
        // One more than wanted, which tells whether the last second has further documents. Where documents are looked
        // at here, one in a thousand may be wanted: no page size can be derived from the limit.
        let page = match query.limit.filter(|_| !query.narrows()) {
            Some(limit) => limit.min(MAX_PAGE - 1) + 1,
            None => WHOLE_PAGE,
        };
        let mut ordered = Ordered { sink, left: query.limit.unwrap_or(usize::MAX), same_second: Vec::new() };
        let mut cost = Cost::default();
        for range in ranges {
            let mut take = |mut document: Value| {
                strip(&mut document);
                !query.admits(&document) || ordered.push(document)
            };
            let pages = self.pages::<Value>(statement(query, &range), range.scope(), Some(page), &mut take);
            let spent = pages.await.map_err(|error| StoreError { cost: cost + error.cost, ..error })?.cost;
            cost = cost + spent;
            if ordered.left == 0 {
                break;
            }
        }
        // After an early end nothing is left that the receiver wants.
        if ordered.left > 0 {
            ordered.flush();
        }
        tracing::info!(
            request_units = cost.request_units,
            latency_ms = cost.latency.as_millis(),
            partitions = days.map_or(0, |days| days.len()),
            "query"
        );
        Ok(Charged { value: (), cost })
    }

    pub(super) async fn select_keys(
        &self,
        tenant: &str,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<Charged<Vec<StoredKey>>, StoreError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Row {
            id: String,
            commit_date: String,
            #[serde(default)]
            digest: String,
        }
        let range = Range { tenant, since, until };
        let mut keys = Vec::new();
        let charged = self
            .pages::<Row>(
                range.select("c.id, c.commitDate, c.digest"),
                range.scope(),
                None,
                &mut |Row { id, commit_date: date, digest }| {
                    keys.push(StoredKey { date, id, digest });
                    true
                },
            )
            .await?;
        keys.sort_by(|a, b| (&a.date, &a.id).cmp(&(&b.date, &b.id)));
        Ok(Charged { value: keys, cost: charged.cost })
    }

    /// Runs a statement in pages of at most `size`; each is bounded in time like any operation.
    async fn pages<T: DeserializeOwned + Send + 'static>(
        &self,
        statement: Result<Sql, Failure>,
        scope: FeedScope,
        size: Option<usize>,
        each: &mut (dyn FnMut(T) -> bool + Send),
    ) -> Result<Charged<()>, StoreError> {
        let started = Instant::now();
        let opened = self.run(Operation::Query, async {
            let size = size.and_then(|size| NonZeroU32::new(u32::try_from(size).ok()?));
            let size = size.map_or(MaxItemCountHint::ServerDecides, MaxItemCountHint::Limit);
            let options = QueryOptions::default().with_max_item_count(size);
            let items = self.container().await?.query_items::<T>(statement?, scope, Some(options)).await?;
            Ok((items.into_pages(), None::<Arc<DiagnosticsContext>>))
        });
        let mut pages = pin!(opened.await?.value);
        let mut request_units = 0.0;
        'pages: loop {
            let page = self
                .run(Operation::Query, async {
                    let page = pages.next().await.transpose()?;
                    let diagnostics = page.as_ref().map(|page| page.diagnostics());
                    Ok((page, diagnostics))
                })
                .await
                .map_err(|error| {
                    let spent = Cost {
                        request_units: request_units + error.cost.request_units,
                        latency: started.elapsed(),
                    };
                    StoreError { cost: spent, ..error }
                })?;
            request_units += page.cost.request_units;
            let Some(page) = page.value else { break };
            for item in page.into_items() {
                if !each(item) {
                    break 'pages;
                }
            }
        }
        // The SDK takes an empty answer for an empty page, and nothing found would read like a fact. The service
        // charges for nothing, too.
        if request_units == 0.0 {
            return Err(errors::not_the_store(&self.place, "results without a charge"));
        }
        Ok(Charged { value: (), cost: Cost { request_units, latency: started.elapsed() } })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use serde_json::json;

    use super::*;

    fn text(query: &Query) -> Value {
        let range =
            Range { tenant: &query.tenant, since: query.since.as_deref(), until: query.until.as_deref() };
        let sql = statement(query, &range).map_err(|_| "no statement").unwrap();
        serde_json::to_value(sql).unwrap()
    }

    #[test]
    fn values_travel_as_parameters() {
        let hostile = "' OR c.tenantId != '";
        let sql = text(&Query {
            tenant: hostile.to_owned(),
            since: Some("2026-01-01".to_owned()),
            tags: vec![hostile.to_owned()],
            min_risk: Some(0.5),
            commit: Some("ABCD".to_owned()),
            ..Query::default()
        });
        assert!(!sql["query"].as_str().unwrap().contains('\''));
        assert_eq!(
            sql["parameters"],
            json!([
                {"name": "@tenant", "value": hostile},
                {"name": "@since", "value": "2026-01-01"},
                {"name": "@risk", "value": 0.5},
                {"name": "@tag0", "value": hostile},
                {"name": "@commit", "value": "abcd"},
            ])
        );
    }

    #[test]
    fn the_way_follows_the_range() {
        let days = |since, until| short(Some(since), Some(until)).map(|days| days.len());
        assert_eq!(days("2026-01-01", "2026-01-01"), Some(1));
        assert_eq!(days("2025-12-31", "2026-01-02"), Some(3));
        assert_eq!(days("2025-12-30", "2026-01-02"), None);
        assert_eq!(days("2026-01-02", "2026-01-01"), Some(0));
        assert_eq!(days("2026-01-02' OR", "2026-01-01"), None);
        assert_eq!(short(None, Some("2026-01-01")), None);

        let day = Some("2026-01-02".to_owned());
        let one = Query {
            tenant: "t".to_owned(),
            since: day.clone(),
            until: day,
            commit: Some("C0".repeat(20)),
            ..Query::default()
        };
        let key = point(&one).unwrap();
        assert_eq!((&*key.tenant, &*key.date, key.id), ("t", "2026-01-02", "c0".repeat(20)));
        for other in [
            Query { commit: Some("c0c0".to_owned()), ..one.clone() },
            Query { commit: Some("x".repeat(40)), ..one.clone() },
            Query { until: None, ..one.clone() },
            Query { tags: vec!["HIPAA".to_owned()], ..one.clone() },
            Query { min_risk: Some(0.1), ..one },
        ] {
            assert_eq!(point(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_commit_id_is_hexadecimal() {
        assert_eq!(commit_id("C0FFEE").unwrap(), "c0ffee");
        for bad in ["abc", "", "xyzw", "%abc", "abcd'"] {
            assert_eq!(commit_id(bad).unwrap_err().kind, "bad-query", "{bad}");
        }
    }

    #[test]
    fn the_same_second_is_ordered_by_id() {
        let document = |id: &str, time: &str| json!({"id": id, "timestamp": time});
        let run = |limit: usize| {
            let mut seen = Vec::new();
            let mut sink = |value: Value| {
                seen.push(value["id"].as_str().unwrap().to_owned());
                true
            };
            let mut ordered = Ordered { sink: &mut sink, left: limit, same_second: Vec::new() };
            for (id, time) in [("b", "2"), ("a", "2"), ("d", "1"), ("c", "1")] {
                if !ordered.push(document(id, time)) {
                    break;
                }
            }
            if ordered.left > 0 {
                ordered.flush();
            }
            seen.concat()
        };
        assert_eq!(run(9), "abcd");
        assert_eq!(run(1), "a");
        assert_eq!(run(2), "ab");
        assert_eq!(run(3), "abc");
    }
}
