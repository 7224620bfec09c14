//! What kind of file system a folder lies on. SQLite's write-ahead log needs memory that all processes
//! share; machines share none, SQLite would not notice, and rows would be lost.

use std::io;
use std::path::Path;

/// How far a file system can be trusted with the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// On this machine.
    Local,
    /// On another machine.
    Network,
    /// In user space: it may be either.
    UserSpace,
    /// In memory, gone with the next start of the machine.
    Memory,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its kind.
    pub kind: DiskKind,
    /// The system's name for it where it is known, such as `nfs`.
    pub name: String,
    /// Bytes that this user can still write.
    pub free: u64,
}

impl Disk {
    /// Whether a new file's sync makes its name survive a power cut as well, which POSIX does not ask for: ext4 commits
    /// the transaction that the name is in, or without a journal writes the folder (`ext4_sync_parent`); XFS forces its
    /// log up to it; btrfs logs the name with the file.
    #[must_use]
    pub fn syncs_names(&self) -> bool {
        matches!(self.name.as_str(), "ext4" | "xfs" | "btrfs")
    }
}

/// Asks for the file system of a folder that exists.
///
/// # Errors
/// Where the system does not say.
pub fn disk(folder: &Path) -> io::Result<Disk> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    #[expect(unsafe_code, reason = "the standard library does not ask for the file system")]
    // SAFETY: `path` ends in a zero byte, and `found` has room for the one struct that is written.
    let answer = unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: the call succeeded, so it has filled the struct.
    let found = unsafe { found.assume_init() };
    let (kind, name) = kind(&found);
    let block = u64::try_from(found.f_bsize).unwrap_or_default();
    Ok(Disk { kind, name, free: block.saturating_mul(found.f_bavail) })
}

/// By the magic numbers of `statfs(2)` and `linux/magic.h`.
#[cfg(target_os = "linux")]
fn kind(found: &libc::statfs) -> (DiskKind, String) {
    // The type's width differs between architectures; the numbers have 32 bits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 bits are meant")]
    by_magic(found.f_type as u32)
}

#[cfg(target_os = "linux")]
fn by_magic(magic: u32) -> (DiskKind, String) {
    use DiskKind::{Local, Memory, Network, UserSpace};
    let (kind, name) = match magic {
        0x6969 => (Network, "nfs"),
        0xff53_4d42 => (Network, "cifs"),
        0xfe53_4d42 => (Network, "smb2"),
        0x517b => (Network, "smb"),
        0x564c => (Network, "ncp"),
        0x00c3_6400 => (Network, "ceph"),
        0x0bd0_0bd0 => (Network, "lustre"),
        0x4750_4653 => (Network, "gpfs"),
        0x5346_414f => (Network, "afs"),
        0x7375_7245 => (Network, "coda"),
        // Containers have it for folders of their host.
        0x0102_1997 => (UserSpace, "9p"),
        0x6573_5546 => (UserSpace, "fuse"),
        0x0102_1994 => (Memory, "tmpfs"),
        0x8584_58f6 => (Memory, "ramfs"),
        0xef53 => (Local, "ext4"),
        0x9123_683e => (Local, "btrfs"),
        0x5846_5342 => (Local, "xfs"),
        0x2fc1_2fc1 => (Local, "zfs"),
        0xf2f5_2010 => (Local, "f2fs"),
        0x794c_7630 => (Local, "overlay"),
        _ => return (Local, format!("type {magic:#x}")),
    };
    (kind, name.to_owned())
}

/// By the system's own flag and name.
#[cfg(not(target_os = "linux"))]
fn kind(found: &libc::statfs) -> (DiskKind, String) {
    let bytes = found.f_fstypename.iter().map(|&byte| byte.to_ne_bytes()[0]);
    let name: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    let name = String::from_utf8_lossy(&name).into_owned();
    let local = found.f_flags & u32::try_from(libc::MNT_LOCAL).unwrap_or_default() != 0;
    let kind = match local {
        _ if name.contains("fuse") => DiskKind::UserSpace,
        true => DiskKind::Local,
        false => DiskKind::Network,
    };
    (kind, name)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn this_disk_and_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        assert!(disk(folder.path()).unwrap().free > 0);
        assert_eq!(disk(&folder.path().join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_is_told_apart() {
        let shared = Path::new("/dev/shm");
        if shared.is_dir() {
            assert_eq!(disk(shared).unwrap().kind, DiskKind::Memory);
        }
        assert_ne!(disk(Path::new("/proc")).unwrap().kind, DiskKind::Memory);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn network_file_systems_are_told_from_local_ones() {
        // The number of cifs has its highest bit set.
        for network in [0x6969, 0xff53_4d42] {
            assert_eq!(by_magic(network).0, DiskKind::Network);
        }
        for local in [0xef53, 0x9123_683e, 0x5846_5342, 0x794c_7630] {
            assert_eq!(by_magic(local).0, DiskKind::Local);
        }
    }
}
