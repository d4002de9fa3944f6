//! The body of an answer, in pieces that share the object's memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::cloud::SharedCloud;

/// How long a cut body lingers before the connection is closed, so that what was sent is also
/// received: closing at once would discard it.
const LINGER: Duration = Duration::from_millis(30);

/// The bytes of an answer.
pub(crate) struct ServedBody {
    rest: Bytes,
    /// Set for objects: they are counted, throttled and cut. Errors and listings are not.
    metered: Option<Metered>,
}

struct Metered {
    cloud: SharedCloud,
    /// Bytes until the connection is closed.
    cut_after: Option<u64>,
    lingered: bool,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The size of the piece that `wait` was reserved for.
    reserved: usize,
}

impl ServedBody {
    pub(crate) fn plain(bytes: impl Into<Bytes>) -> Self {
        Self {
            rest: bytes.into(),
            metered: None,
        }
    }

    /// `cut_after` must be less than the length to have an effect.
    pub(crate) fn object(bytes: Bytes, cut_after: Option<u64>, cloud: SharedCloud) -> Self {
        let cut_after = cut_after.filter(|after| *after < bytes.len() as u64);
        let metered = Metered {
            cloud,
            cut_after,
            lingered: false,
            wait: None,
            reserved: 0,
        };
        Self {
            rest: bytes,
            metered: Some(metered),
        }
    }
}

impl Body for ServedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let Some(metered) = &mut this.metered else {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest)))));
        };
        loop {
            if let Some(wait) = &mut metered.wait {
                std::task::ready!(wait.as_mut().poll(cx));
                metered.wait = None;
            }
            if metered.cut_after == Some(0) {
                if metered.lingered {
                    return Poll::Ready(Some(Err(io::Error::other("the body was cut"))));
                }
                metered.lingered = true;
                metered.wait = Some(Box::pin(tokio::time::sleep(LINGER)));
                continue;
            }
            let mut size = this.rest.len().min(metered.cloud.faults.largest_piece());
            if let Some(left) = metered.cut_after {
                size = size.min(usize::try_from(left).unwrap_or(usize::MAX));
            }
            if metered.reserved == 0
                && let Some(wait) = metered.cloud.faults.reserve(size)
            {
                metered.reserved = size;
                metered.wait = Some(Box::pin(wait));
                continue;
            }
            if metered.reserved > 0 {
                size = size.min(metered.reserved);
            }
            metered.reserved = 0;
            let piece = this.rest.split_to(size);
            metered.cut_after = metered.cut_after.map(|left| left - size as u64);
            metered.cloud.ledger.served(size as u64);
            metered.cloud.faults.served(size as u64);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
