//! The body of an answer, in pieces that share the object's memory.

use std::collections::VecDeque;
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
    rest: VecDeque<Bytes>,
    /// The length of `rest`.
    left: u64,
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
        Self::of(VecDeque::from([bytes.into()]))
    }

    fn of(rest: VecDeque<Bytes>) -> Self {
        Self {
            left: rest.iter().map(|bytes| bytes.len() as u64).sum(),
            rest,
            metered: None,
        }
    }

    /// `cut_after` must be less than the length to have an effect.
    pub(crate) fn object(
        bytes: VecDeque<Bytes>,
        cut_after: Option<u64>,
        cloud: SharedCloud,
    ) -> Self {
        let mut body = Self::of(bytes);
        body.metered = Some(Metered {
            cloud,
            cut_after: cut_after.filter(|after| *after < body.left),
            lingered: false,
            wait: None,
            reserved: 0,
        });
        body
    }

    /// Takes at most `size` bytes from the front.
    fn take(&mut self, size: usize) -> Bytes {
        while self.rest.front().is_some_and(Bytes::is_empty) {
            self.rest.pop_front();
        }
        let piece = match self.rest.front_mut() {
            Some(front) => front.split_to(size.min(front.len())),
            None => Bytes::new(),
        };
        self.left -= piece.len() as u64;
        piece
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
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let Some(metered) = &mut this.metered else {
            return Poll::Ready(Some(Ok(Frame::data(this.take(usize::MAX)))));
        };
        while this.rest.front().is_some_and(Bytes::is_empty) {
            this.rest.pop_front();
        }
        let in_front = this.rest.front().map_or(0, Bytes::len);
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
            let mut size = in_front.min(metered.cloud.faults.largest_piece());
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
            metered.cut_after = metered.cut_after.map(|left| left - size as u64);
            metered.cloud.ledger.served(size as u64);
            metered.cloud.faults.served(size as u64);
            return Poll::Ready(Some(Ok(Frame::data(this.take(size)))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
