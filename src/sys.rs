//! The few things that need unsafe code or touch the whole process.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::unix::AsyncFd;

/// Environment variables that hold secrets: no child may inherit them.
const SECRETS: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
];

/// Takes the variables that hold secrets out of the environment. What is not UTF-8 in them is U+FFFD.
///
/// Must be called before any thread exists.
pub(crate) fn take_secrets() -> Vec<(String, String)> {
    let mut taken = Vec::new();
    for name in SECRETS {
        if let Some(value) = std::env::var_os(name) {
            taken.push((name.to_owned(), value.to_string_lossy().into_owned()));
            // SAFETY: `main` calls this first, while the process has one thread.
            unsafe { std::env::remove_var(name) };
        }
    }
    taken
}

/// Takes a variable out of the environment. Returns whether it was there.
///
/// Must be called before any thread exists.
pub(crate) fn take_mark(name: &str) -> bool {
    let is_there = std::env::var_os(name).is_some();
    // SAFETY: `main` calls this while the process has one thread.
    unsafe { std::env::remove_var(name) };
    is_there
}

/// Says where `aws login` keeps its sessions if `AWS_LOGIN_CACHE_DIRECTORY` has `~` or a variable in
/// it, or HOME is not set: the AWS CLI expands the one and finds the other, the SDK's provider does not.
///
/// Must be called before any thread exists.
pub(crate) fn settle_login_cache() {
    const NAME: &str = "AWS_LOGIN_CACHE_DIRECTORY";
    let directory = match std::env::var(NAME) {
        Ok(named) => Some(crate::home::expanded(&named)),
        Err(_) if std::env::var_os("HOME").is_some_and(|home| !home.is_empty()) => None,
        Err(_) => crate::home::directory().map(|home| home.join(".aws/login/cache")),
    };
    if let Some(directory) = directory {
        // SAFETY: `main` calls this while the process has one thread.
        unsafe { std::env::set_var(NAME, directory) };
    }
}

/// Ends this process by a signal, as if nobody had caught it: shells and systemd read the cause
/// from that.
pub(crate) fn die_of(signal: Signal) {
    // SAFETY: the default action replaces a handler; no code of ours depends on that any more.
    let restored = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    if restored.is_ok() {
        let _ = nix::sys::signal::raise(signal);
    }
}

/// Makes a signal (by its number) do nothing here, and its default in programs that are started:
/// those inherit what is ignored or blocked, but not what is caught.
pub(crate) fn shrug_off(signal: i32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: all zeros is a valid `sigaction`, and the handler does nothing, which is safe at any
    // time.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut());
    }
}

/// The limit of open files that this process was started with.
static USUAL_LIMIT: OnceLock<(u64, u64)> = OnceLock::new();

/// Has the kernel give this process as many descriptors as it may have at most.
///
/// The usual limit of 1,024 is for programs that use select(2).
pub(crate) fn raise_descriptor_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        let _ = USUAL_LIMIT.set((soft, hard));
    }
}

/// Has a program that is started get the usual limit of descriptors again: some close all that
/// there may be, one by one.
pub(crate) fn with_usual_limits(command: &mut std::process::Command) -> &mut std::process::Command {
    if let Some((soft, hard)) = USUAL_LIMIT.get().copied() {
        let lower = move || Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?);
        // SAFETY: between fork and exec it makes one system call, and allocates nothing.
        unsafe { command.pre_exec(lower) };
    }
    command
}

/// The device number of what a path leads to, if that can be told without asking its filesystem,
/// which may be ours: fs/fuse/dir.c of Linux, `fuse_getattr`, tells it for a mask of nothing.
pub(crate) fn device_of(path: &Path) -> Option<(u32, u32)> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zeros is a valid `statx`, the path ends with a zero, and both outlive the call.
    unsafe {
        let mut about: libc::statx = std::mem::zeroed();
        let flags = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
        let told = libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, 0, &raw mut about);
        (told == 0).then_some((about.stx_dev_major, about.stx_dev_minor))
    }
}

/// Whether a request for a lock is flock(2)'s, which fuser 0.18.0 does not hand on: `lk_flags` of
/// `fuse_lk_in` in include/uapi/linux/fuse.h. `words` are the four words before it that fuser did
/// hand on; `None` if they are not where they should be.
pub(crate) fn is_flock(request: &fuser::Request, words: [u64; 4]) -> Option<bool> {
    /// `struct fuse_in_header`, all that a [`fuser::Request`] is.
    #[repr(C)]
    struct Header {
        length: u32,
        opcode: u32,
        rest: [u32; 8],
    }
    /// `struct fuse_lk_in`.
    #[repr(C)]
    struct LockIn {
        words: [u64; 4],
        mode: u32,
        process: u32,
        flags: u32,
        padding: u32,
    }
    const LOCK_OPCODES: std::ops::RangeInclusive<u32> = 31..=33;
    const FLOCK: u32 = 1;
    if size_of::<fuser::Request>() != size_of::<Header>() {
        return None;
    }
    let header = std::ptr::from_ref(request).cast::<Header>();
    // SAFETY: a request is those 40 bytes, of which every value is valid.
    let (length, opcode) = unsafe { ((*header).length, (*header).opcode) };
    let whole = size_of::<Header>() + size_of::<LockIn>();
    if !LOCK_OPCODES.contains(&opcode) || usize::try_from(length) != Ok(whole) {
        return None;
    }
    // SAFETY: fuser reads a request into one buffer, aligned to 16 bytes, and hands out a reference
    // to its beginning (session.rs and request.rs of 0.18.0). The kernel has said, and fuser has
    // checked, that `length` bytes are there. Those of other versions would not pass what follows.
    let lock = unsafe { header.add(1).cast::<LockIn>().read_unaligned() };
    (lock.words == words).then_some(lock.flags & FLOCK != 0)
}

/// Waits for a descriptor in the runtime that this is called in.
pub(crate) fn in_runtime(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor is the same one each time, and open until the result drops it.
    Ok(unsafe { AsyncFd::register(descriptor)? })
}

/// Receives one descriptor from a socket.
pub(crate) fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut room = nix::cmsg_space!(RawFd);
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), flags) {
            Err(Errno::EINTR) => {}
            outcome => break outcome?,
        }
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control
            && let Some(descriptor) = received.first()
        {
            // SAFETY: the kernel has just made it for this process, and nobody else knows of it.
            return Ok(unsafe { OwnedFd::from_raw_fd(*descriptor) });
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Keeps the process's memory out of core dumps, and other processes of the user out of its
/// memory.
pub(crate) fn forbid_core_dumps() {
    let _ = prctl::set_dumpable(false);
}
