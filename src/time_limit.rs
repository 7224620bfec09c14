//! A hard limit on the time of a hook: when it is over, what the hook has not recorded yet is noted by id and the
//! process ends, whatever it was doing.
//!
//! Most of a hook is bounded in bytes and counts, which bounds time only on a machine that is quick: a cold or
//! remote disk, a tree of a million entries or a single call into libgit2 are not. So a timer of the kernel's ends it,
//! and what it has to write is made ready beforehand: the handler of a signal must neither allocate nor take a
//! lock, since what it interrupts may be in the middle of just that. It creates, writes, syncs and renames by plain
//! system calls, all of which POSIX allows there, and replaces the program by the one that starts the worker.
//!
//! Cost where the limit is not reached: about 0.1 ms, since the notes have to be ready.

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use crate::deferred::{self, Note};
use crate::durable;

/// What a hook may take, beyond the last sync: ten times an ordinary hook on a slow machine, and not yet a pause to
/// whom it interrupts. Unoptimised builds, which only tests run, are ten times slower.
pub const HOOK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2500 } else { 250 });

/// What the handler writes where even the notes could not be kept.
const LOST: &[u8] = b"gitops-agent: the commit took too long to judge and could not be noted; `gitops-agent verify` will name it\n";

/// Everything the handler needs.
struct Ready {
    places: Vec<Place>,
    /// Temporary name, name, content.
    files: Vec<(CString, CString, Vec<u8>)>,
    /// The program to go on with: its path, and its arguments with a null at the end.
    program: CString,
    _arguments: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

/// A folder for notes, and the folders that it is in, outermost first.
struct Place {
    above: Vec<CString>,
    folder: CString,
}

/// Where the handler finds its work; null while no limit is set.
static READY: AtomicPtr<Ready> = AtomicPtr::new(std::ptr::null_mut());

/// Sets the limit: after `left` the notes are written into the first of `folders` that can be written, and the process
/// goes on as `program` with `arguments`, so that somebody judges them. A limit that was set before is replaced.
///
/// Where a path has a NUL byte no limit is set; there is no such path.
pub fn set(left: Duration, notes: &[Note], folders: &[&Path], program: &Path, arguments: &[&str]) {
    lift();
    let Some(ready) = Ready::new(notes, folders, program, arguments) else { return };
    // Never freed: the handler may come at any time, and a hook sets few of them.
    READY.store(Box::into_raw(Box::new(ready)), Ordering::Release);
    // A timer of 0 would be none.
    arm(left.max(Duration::from_micros(1)));
}

/// Lifts the limit: what follows must not be torn apart, or is done.
pub fn lift() {
    if !READY.swap(std::ptr::null_mut(), Ordering::AcqRel).is_null() {
        arm(Duration::ZERO);
    }
}

impl Ready {
    fn new(notes: &[Note], folders: &[&Path], program: &Path, arguments: &[&str]) -> Option<Self> {
        let places = folders.iter().map(|folder| Place::new(folder)).collect::<Option<_>>()?;
        let files = notes.iter().map(|note| {
            let (temporary, name) = durable::names(deferred::SUFFIX, note.noted_at);
            Some((CString::new(temporary).ok()?, CString::new(name).ok()?, serde_json::to_vec(note).ok()?))
        });
        let program = c_path(program)?;
        let arguments: Vec<CString> = std::iter::once(Some(program.clone()))
            .chain(arguments.iter().map(|argument| CString::new(*argument).ok()))
            .collect::<Option<_>>()?;
        let pointers = arguments.iter().map(|argument| argument.as_ptr()).chain([std::ptr::null()]).collect();
        Some(Self { places, files: files.collect::<Option<_>>()?, program, _arguments: arguments, pointers })
    }

    /// Runs in the handler: system calls only.
    fn kept(&self) -> bool {
        self.places.iter().any(|place| {
            let Some(folder) = place.open() else { return false };
            self.files.iter().all(|(temporary, name, content)| folder.keep(temporary, name, content))
                && folder.sync()
        })
    }
}

impl Place {
    fn new(folder: &Path) -> Option<Self> {
        let mut above = folder.ancestors().skip(1).map(c_path).collect::<Option<Vec<_>>>()?;
        above.reverse();
        Some(Self { above, folder: c_path(folder)? })
    }

    /// Creates what is missing and opens the folder; a link in its place is not followed.
    #[expect(unsafe_code, reason = "the standard library allocates, which a handler of signals must not")]
    fn open(&self) -> Option<Folder> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        for (above, folder) in self.above.iter().zip(self.above.iter().skip(1).chain([&self.folder])) {
            // SAFETY: strings with their ends. What is there already answers EEXIST.
            unsafe {
                if libc::mkdir(folder.as_ptr(), 0o700) == 0 {
                    // Or a power cut takes the new folder with everything in it.
                    synced(libc::open(above.as_ptr(), flags));
                }
            }
        }
        // SAFETY: as above.
        let descriptor = unsafe { libc::open(self.folder.as_ptr(), flags | libc::O_NOFOLLOW) };
        (descriptor >= 0).then_some(Folder(descriptor))
    }
}

/// An open folder; nobody closes it, since the process ends.
struct Folder(libc::c_int);

impl Folder {
    #[expect(unsafe_code, reason = "the standard library allocates, which a handler of signals must not")]
    fn keep(&self, temporary: &CStr, name: &CStr, content: &[u8]) -> bool {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: strings with their ends, a buffer with its length, and a descriptor that was opened here.
        unsafe {
            let file = libc::openat(self.0, temporary.as_ptr(), flags, 0o600);
            if file < 0 {
                return false;
            }
            let mut rest = content;
            while !rest.is_empty() {
                let Ok(written) = usize::try_from(libc::write(file, rest.as_ptr().cast(), rest.len())) else {
                    break;
                };
                rest = &rest[written.min(rest.len())..];
            }
            let kept = rest.is_empty()
                && synced(file)
                && libc::renameat(self.0, temporary.as_ptr(), self.0, name.as_ptr()) == 0;
            if !kept {
                libc::unlinkat(self.0, temporary.as_ptr(), 0);
            }
            kept
        }
    }

    fn sync(&self) -> bool {
        synced(self.0)
    }
}

#[expect(unsafe_code, reason = "the standard library allocates, which a handler of signals must not")]
fn synced(descriptor: libc::c_int) -> bool {
    // SAFETY: no pointers.
    #[cfg(target_os = "macos")]
    if unsafe { libc::fcntl(descriptor, libc::F_FULLFSYNC) } == 0 {
        return true;
    }
    // SAFETY: no pointers.
    unsafe { libc::fsync(descriptor) == 0 }
}

/// The handler. Ends the process.
#[expect(unsafe_code, reason = "the standard library has no signals")]
extern "C" fn over(_signal: libc::c_int) {
    let ready = READY.swap(std::ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: made by `set` from a box that nobody frees, and taken out by one caller only.
    let Some(ready) = (unsafe { ready.as_ref() }) else { return };
    // SAFETY: a static buffer with its length; then strings with their ends, and an array with its null.
    unsafe {
        if ready.kept() {
            libc::execv(ready.program.as_ptr(), ready.pointers.as_ptr());
        } else {
            libc::write(2, LOST.as_ptr().cast(), LOST.len());
        }
        libc::_exit(0)
    }
}

/// Starts the timer, or stops it with zero.
#[expect(unsafe_code, reason = "the standard library has no timers of the kernel's")]
fn arm(left: Duration) {
    // SAFETY: structures of plain numbers, for which zero is a value, owned by this function for the length of
    // each call; the handler keeps to what POSIX allows in one.
    unsafe {
        if !left.is_zero() {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = over as extern "C" fn(libc::c_int) as libc::sighandler_t;
            // The program that the handler starts must not begin with the signal blocked.
            action.sa_flags = libc::SA_NODEFER;
            libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
            let mut signals: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut signals);
            libc::sigaddset(&raw mut signals, libc::SIGALRM);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const signals, std::ptr::null_mut());
        }
        let mut timer: libc::itimerval = std::mem::zeroed();
        timer.it_value.tv_sec = libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX);
        timer.it_value.tv_usec = left.subsec_micros() as libc::suseconds_t;
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(OsString::from(path).as_bytes()).ok()
}
