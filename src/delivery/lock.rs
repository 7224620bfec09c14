//! One delivery at a time across all processes of a user, and no commit left behind.
//!
//! The lock is `flock` on `worker.lock` (through [`std::fs::File::try_lock`]): the kernel drops it with the
//! last process that holds it, however that ends. The holder's process id is written into the file for people.
//!
//! A hook that wants delivery takes the lock *itself* and hands it to the worker that it starts, as
//! the worker's standard input ([`claim`], then [`crate::detach::spawn_worker`], then
//! [`WorkerLock::adopt`]). So of a fleet of hooks exactly one starts a worker, and no worker is started in vain.
//!
//! Why nothing is left behind: a hook first commits its row and then tries the lock; a worker first
//! releases the lock and then looks at the outbox once more, and goes on if there is anything
//! ([`super::deliver`]). If the hook found the lock taken, its row was committed before the release, so
//! the look after it sees the row. If the holder was another hook that had not yet started its worker, that
//! worker looks later still. What remains are the holder's own failures: it is killed, or its worker cannot be
//! started. Then the row waits for the next commit, `flush` or `status --check` to tell of it; nothing is lost.
//!
//! Where the store is away, or waits for a person, one worker stays for the next attempts, without the lock
//! ([`WorkerLock::to_wait`]): commits and `flush` go their way meanwhile.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const FILE_NAME: &str = "worker.lock";
/// Held by the one worker that stays for a later attempt.
const WAITING: &str = "worker-waits.lock";

/// The exclusive right to deliver from the outbox in one folder.
#[derive(Debug)]
pub struct WorkerLock {
    /// `None` once it was handed to a worker.
    file: Option<File>,
}

fn open(dir: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.join(name))
}

impl WorkerLock {
    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// When the lock file cannot be created or locked.
    pub fn try_acquire(dir: &Path) -> io::Result<Option<Self>> {
        let lock = Self::try_take(dir, FILE_NAME)?;
        if let Some(lock) = &lock {
            lock.sign();
        }
        Ok(lock)
    }

    /// The right to wait for a later attempt, which one process at a time has. It hinders nobody from delivering:
    /// whoever waits must take the other lock again first.
    ///
    /// # Errors
    /// When the lock file cannot be created or locked.
    pub fn to_wait(dir: &Path) -> io::Result<Option<Self>> {
        Self::try_take(dir, WAITING)
    }

    fn try_take(dir: &Path, name: &str) -> io::Result<Option<Self>> {
        let file = open(dir, name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits for the lock, at most so long; looks 20 times a second. `None` when the time is over.
    ///
    /// # Errors
    /// When the lock file cannot be created or locked.
    pub fn wait(dir: &Path, at_most: Option<Duration>) -> io::Result<Option<Self>> {
        let start = Instant::now();
        loop {
            if let Some(lock) = Self::try_acquire(dir)? {
                return Ok(Some(lock));
            }
            if at_most.is_some_and(|limit| start.elapsed() >= limit) {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The process id that the holder has written into the file; to be asked after
    /// [`WorkerLock::try_acquire`] has said that somebody holds it. A hook that is just starting a worker
    /// has not written one yet, so this may name the holder before.
    #[must_use]
    pub fn holder(dir: &Path) -> Option<u32> {
        // Trying the lock here, even shared, could turn a hook away that relies on the holder.
        let file = OpenOptions::new().read(true).open(dir.join(FILE_NAME)).ok()?;
        let mut text = String::new();
        file.take(20).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    /// Gives the lock away, to be a worker's standard input. The lock itself lives on in the file.
    #[must_use]
    pub fn into_file(mut self) -> Option<File> {
        self.file.take()
    }

    /// Takes over the lock that came as `file` ([`crate::detach::take_stdin`]) from the hook that started
    /// this process. Where it is not this folder's lock, the lock is tried for in the ordinary way.
    ///
    /// # Errors
    /// When the lock file cannot be created or locked.
    pub fn adopt(dir: &Path, file: File) -> io::Result<Option<Self>> {
        let given = file.metadata()?;
        let wanted = open(dir, FILE_NAME)?.metadata()?;
        if (given.dev(), given.ino()) != (wanted.dev(), wanted.ino()) {
            return Self::try_acquire(dir);
        }
        // Locking what this very description holds already succeeds and changes nothing.
        match file.try_lock() {
            Ok(()) => {
                let lock = Self { file: Some(file) };
                lock.sign();
                Ok(Some(lock))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes the process id for people; without it the lock works as well.
    fn sign(&self) {
        let Some(mut file) = self.file.as_ref() else { return };
        let mut write = || -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(format!("{}\n", std::process::id()).as_bytes())
        };
        let _ = write();
    }
}

impl Drop for WorkerLock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Closing would do, were it not for copies of the descriptor in processes that this one started.
            let _ = file.unlock();
        }
    }
}

/// For a hook that has just made something durable: the lock to start a worker with; `None` where one is at
/// work already, which will look once more.
///
/// # Errors
/// When the lock file cannot be created.
pub fn claim(dir: &Path) -> io::Result<Option<WorkerLock>> {
    WorkerLock::try_take(dir, FILE_NAME)
}
