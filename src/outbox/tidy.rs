//! Room on the disk: what delivered records took goes back to the file system.

use std::time::Duration;

use super::{Outbox, OutboxError, PATIENCE};

impl Outbox {
    /// Moves the log into the database and gives free pages back to the file system, a thousand at a time
    /// so that hooks get in between; up to 1 MB stays for what comes next. Best effort: where another process
    /// is busy, the next one does it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tidy(&mut self) -> Result<(), OutboxError> {
        const KEPT: i64 = 256;
        const STEP: i64 = 1000;
        let tidy = || -> rusqlite::Result<()> {
            let free: i64 = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            let mut left = free - KEPT;
            while left > 0 {
                run(&self.connection, &format!("PRAGMA incremental_vacuum({})", left.min(STEP)))?;
                left -= STEP;
            }
            run(&self.connection, "PRAGMA wal_checkpoint(TRUNCATE)")
        };
        self.connection.busy_timeout(Duration::from_millis(200))?;
        let result = tidy();
        self.connection.busy_timeout(PATIENCE)?;
        match result.map_err(OutboxError::from) {
            Err(OutboxError::Busy) => Ok(()),
            other => other,
        }
    }
}

/// Runs a statement to its end, whatever rows it answers with.
fn run(connection: &rusqlite::Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
