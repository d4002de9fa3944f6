//! Hearing that somebody in another process has let a lock go: inotify(7) on lock files.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Watches files, and counts what happens to them. Must be made in a runtime.
#[derive(Debug)]
pub(super) struct Wake {
    inotify: Arc<Inotify>,
    listening: JoinHandle<()>,
}

impl Wake {
    /// Adds one to `count` whenever a watched file is touched, or closed by somebody.
    pub(super) fn new(count: watch::Sender<u64>) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let ready = crate::sys::in_runtime(inotify.as_fd().try_clone_to_owned()?)?;
        let inotify = Arc::new(inotify);
        let events = Arc::clone(&inotify);
        let listening = tokio::spawn(async move {
            while let Ok(mut ready) = ready.readable().await {
                match events.read_events() {
                    Ok(_) => count.send_modify(|count| *count = count.wrapping_add(1)),
                    Err(Errno::EAGAIN) => ready.clear_ready(),
                    Err(Errno::EINTR) => {}
                    Err(_) => return,
                }
            }
        });
        Ok(Self { inotify, listening })
    }

    pub(super) fn watch(&self, path: &str) -> Option<WatchDescriptor> {
        let what = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_CLOSE_WRITE;
        self.inotify.add_watch(path, what).ok()
    }

    pub(super) fn forget(&self, watched: WatchDescriptor) {
        let _ = self.inotify.rm_watch(watched);
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
