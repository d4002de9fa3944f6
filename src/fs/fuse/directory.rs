//! Names on their way to the kernel.

use std::sync::Arc;

use fuser::{Errno, FileHandle};

use super::told;
use crate::auth::{Asker, AuthError};
use crate::fs::listing::Numbered;
use crate::fs::{FileSystem, FsError};
use crate::store::StoreError;

/// The names of an open directory from an offset on, with the numbers of `.` and `..`.
pub(super) async fn names(
    fs: Arc<FileSystem>,
    asker: Asker,
    handle: FileHandle,
    offset: u64,
) -> Result<(Arc<FileSystem>, u64, u64, Vec<Numbered>), FsError> {
    let stream = fs.stream(handle.0)?;
    if offset == 0 {
        stream.begin();
    }
    let (this, above) = stream.numbers();
    let place = offset.saturating_sub(DOTS);
    let names = fs.names_from(&asker, &stream, place).await?;
    Ok((fs, this, above, names))
}

/// Sends names while a session lives, or says that there is none. Returns whether it sent them.
pub(super) fn send_names<R>(fs: &FileSystem, reply: R, send: fn(R), refuse: fn(R, Errno)) -> bool {
    let mut reply = Some(reply);
    fs.while_live(|| reply.take().map(send));
    let Some(reply) = reply else {
        return true;
    };
    refuse(reply, told(&StoreError::Session(AuthError::Unasked).into()));
    false
}

/// Sends something else that is content, as far as it may be served: see [`send_names`].
pub(super) fn send_content<R>(
    fs: &FileSystem,
    reply: R,
    send: impl FnOnce(R),
    refuse: fn(R, Errno),
) {
    let mut unsent = Some((reply, send));
    fs.while_served(&mut || unsent.take().map(|(reply, send)| send(reply)));
    if let Some((reply, _)) = unsent {
        refuse(reply, told(&StoreError::Session(AuthError::Unasked).into()));
    }
}

/// How many places `.` and `..` take before the names.
pub(super) const DOTS: u64 = 2;
