//! `outbox list|show|retry|discard|export`: looking into the queue and acting on it by hand.

use std::io::Write;

use jiff::Timestamp;
use rusqlite::{Row, named_params};

use super::enqueue::{from_json, path_of};
use super::{EntryDetail, EntrySummary, Outbox, OutboxError, Selection, State, Urgency, timestamp};

/// What [`summary`] reads, by position. A gate's words stand in for the row's own where it holds the row.
const COLUMNS: &str = "SELECT s.id, s.tenant, s.date, d.name, s.shown, s.urgency, s.attempts, s.queued_at,
        s.not_before, s.settled_at, s.settled_by,
        CASE WHEN s.shown = 'held' THEN coalesce(g.kind, p.kind, s.kind) ELSE s.kind END,
        CASE WHEN s.shown = 'held' THEN coalesce(g.message, p.message, s.reason) ELSE s.reason END,
        s.digest, j.name, r.path, length(s.body), s.entry
    FROM shown s JOIN destinations d USING (destination) JOIN judgements j USING (judgement)
        JOIN repositories r USING (repository)
        LEFT JOIN gates g ON s.state = 'pending' AND g.destination = s.destination AND g.held = 1
            AND g.tenant = '' AND g.date = ''
        LEFT JOIN gates p ON s.state = 'pending' AND p.destination = s.destination AND p.held = 1
            AND p.tenant = s.tenant AND p.date = s.date";

/// A selection as bound values: the state or NULL, the least id, and the first id after the last one.
struct Bounds {
    state: Option<&'static str>,
    from: String,
    to: String,
}

impl Bounds {
    fn of(selection: &Selection) -> Self {
        match selection {
            Selection::All => Self { state: None, from: String::new(), to: "~".to_owned() },
            Selection::In(state) => {
                Self { state: Some(state.as_str()), from: String::new(), to: "~".to_owned() }
            }
            Selection::Commit(prefix) => {
                let prefix = prefix.to_ascii_lowercase();
                // `g` follows every hex digit, so this is where the ids that begin so end.
                Self { state: None, to: format!("{prefix}g"), from: prefix }
            }
        }
    }
}

const SELECTED: &str = "s.id >= :from AND s.id < :to AND (:state IS NULL OR s.shown = :state)";

impl Outbox {
    /// The entries of a selection, oldest first, at most `limit` of them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, selection: &Selection, limit: usize) -> Result<Vec<EntrySummary>, OutboxError> {
        let bounds = Bounds::of(selection);
        let sql = format!("{COLUMNS} WHERE {SELECTED} ORDER BY s.queued_at, s.entry LIMIT :limit");
        let mut statement = self.connection.prepare(&sql)?;
        let rows = statement.query_map(
            named_params! {
                ":from": bounds.from, ":to": bounds.to, ":state": bounds.state,
                ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
            },
            summary,
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The entries of the one commit whose id begins so: one for each tenant and destination.
    ///
    /// # Errors
    /// [`OutboxError::NotFound`], [`OutboxError::Ambiguous`], or when the file cannot be read.
    pub fn show(&self, id_prefix: &str) -> Result<Vec<EntryDetail>, OutboxError> {
        let id = self.resolve(id_prefix)?;
        let mut body = self.connection.prepare(
            "SELECT body FROM entries JOIN destinations d USING (destination)
             WHERE id = ?1 AND tenant = ?2 AND d.name = ?3",
        )?;
        self.list(&Selection::Commit(id), usize::MAX)?
            .into_iter()
            .map(|summary| {
                let destination = super::enqueue::name_of(&summary.destination);
                let bytes: Option<Vec<u8>> =
                    body.query_row([&summary.id, &summary.tenant, &destination], |row| row.get(0))?;
                let record = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                Ok(EntryDetail { summary, record })
            })
            .collect()
    }

    fn resolve(&self, id_prefix: &str) -> Result<String, OutboxError> {
        let bounds = Bounds::of(&Selection::Commit(id_prefix.to_owned()));
        let mut statement = self
            .connection
            .prepare_cached("SELECT DISTINCT id FROM entries WHERE id >= ?1 AND id < ?2 LIMIT 100")?;
        let mut ids = statement
            .query_map([&bounds.from, &bounds.to], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        match (ids.pop(), ids.len()) {
            (Some(id), 0) => Ok(id),
            (None, _) => Err(OutboxError::NotFound(id_prefix.to_owned())),
            (Some(_), rest) => Err(OutboxError::Ambiguous { prefix: id_prefix.to_owned(), count: rest + 1 }),
        }
    }

    /// Lets entries go again: refused ones become pending, waiting ones are due at once, and gates before
    /// held ones let a probe through. Entries that wait for a setting go on by giving it
    /// ([`Outbox::assign_tenant`]), not by this. Returns how many entries can go.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn retry(&mut self, selection: &Selection) -> Result<usize, OutboxError> {
        let bounds = Bounds::of(selection);
        let transaction = self.begin()?;
        // Gates first: `shown` is computed from them, so the state must be read before anything changes.
        transaction.execute(
            &format!(
                "UPDATE gates SET retry_at = 0 WHERE EXISTS (SELECT 1 FROM shown s
                     WHERE s.state = 'pending' AND s.destination = gates.destination
                       AND (gates.tenant = '' OR (gates.tenant = s.tenant AND gates.date = s.date))
                       AND {SELECTED})"
            ),
            named_params! { ":from": bounds.from, ":to": bounds.to, ":state": bounds.state },
        )?;
        let changed = transaction.execute(
            &format!(
                "UPDATE entries SET state = 'pending', not_before = 0,
                     attempts = CASE WHEN state = 'refused' THEN 0 ELSE attempts END,
                     kind = CASE WHEN state = 'refused' THEN NULL ELSE kind END,
                     reason = CASE WHEN state = 'refused' THEN NULL ELSE reason END
                 WHERE entry IN (SELECT s.entry FROM shown s WHERE s.state IN ('pending', 'refused') AND {SELECTED})"
            ),
            named_params! { ":from": bounds.from, ":to": bounds.to, ":state": bounds.state },
        )?;
        transaction.commit()?;
        Ok(changed)
    }

    /// Gives up the waiting, held and refused entries of one commit, in all tenants and destinations. A
    /// tombstone stays with who, when and why, so that reconciliation does not bring the commit back and
    /// `verify` can name it; the record itself is dropped. Returns the tombstones.
    ///
    /// # Errors
    /// [`OutboxError::NotFound`], [`OutboxError::Ambiguous`], [`OutboxError::Settled`] where nothing of
    /// the commit waits any more, or when the file cannot be written.
    pub fn discard(
        &mut self,
        id_prefix: &str,
        who: &str,
        why: &str,
        now: Timestamp,
    ) -> Result<Vec<EntrySummary>, OutboxError> {
        let id = self.resolve(id_prefix)?;
        let changed = self.bury(&id, who, why, now)?;
        if changed == 0 {
            return Err(OutboxError::Settled(id));
        }
        let mut rows = self.list(&Selection::Commit(id), usize::MAX)?;
        rows.retain(|row| row.state == State::Discarded);
        Ok(rows)
    }

    fn bury(&mut self, id: &str, who: &str, why: &str, now: Timestamp) -> Result<usize, OutboxError> {
        let changed = self.connection.execute(
            "UPDATE entries SET state = 'discarded', body = NULL, revision = revision + 1, settled_at = :now,
                 settled_by = :who, reason = :why, kind = NULL
             WHERE id = :id AND state IN ('pending', 'held', 'refused')",
            named_params! { ":id": id, ":who": who, ":why": why, ":now": now.as_millisecond() },
        )?;
        Ok(changed)
    }

    /// Writes the records of a selection that the outbox still has, one JSON object a line, oldest
    /// first. Returns how many.
    ///
    /// # Errors
    /// When the file cannot be read or `sink` cannot be written.
    pub fn export(&self, selection: &Selection, sink: &mut dyn Write) -> Result<usize, OutboxError> {
        let bounds = Bounds::of(selection);
        let sql = format!(
            "SELECT s.body FROM shown s WHERE s.body IS NOT NULL AND {SELECTED} ORDER BY s.queued_at, s.entry"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement
            .query(named_params! { ":from": bounds.from, ":to": bounds.to, ":state": bounds.state })?;
        let mut written = 0;
        while let Some(row) = rows.next()? {
            let mut line: Vec<u8> = row.get(0)?;
            // JSON has line breaks between its tokens only, where a blank means the same.
            line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
            line.push(b'\n');
            sink.write_all(&line)
                .map_err(|source| OutboxError::io(std::path::Path::new("export"), source))?;
            written += 1;
        }
        Ok(written)
    }
}

fn summary(row: &Row<'_>) -> rusqlite::Result<EntrySummary> {
    let not_before: i64 = row.get(8)?;
    Ok(EntrySummary {
        id: row.get(0)?,
        tenant: row.get(1)?,
        date: row.get(2)?,
        destination: from_json(3, &row.get::<_, String>(3)?)?,
        state: State::from_text(&row.get::<_, String>(4)?),
        urgency: Urgency::from_code(row.get(5)?),
        attempts: row.get(6)?,
        queued_at: timestamp(row.get(7)?),
        next_attempt: (not_before > 0).then(|| timestamp(not_before)),
        settled_at: row.get::<_, Option<i64>>(9)?.map(timestamp),
        settled_by: row.get(10)?,
        kind: row.get(11)?,
        reason: row.get(12)?,
        digest: row.get(13)?,
        judgement: row.get(14)?,
        repository: path_of(&row.get::<_, Vec<u8>>(15)?),
        bytes: row.get::<_, Option<i64>>(16)?.map(super::count),
    })
}
