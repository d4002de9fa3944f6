//! The body of a request on its way in: counted, slowed down and cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

use crate::cloud::SharedCloud;
use crate::exchange::Exchange;

/// A handle to the body of a request. The stages inside `s3s` read one; the front keeps another, to
/// read what a refused request still has to say.
#[derive(Clone)]
pub(crate) struct Receiving {
    state: Arc<Mutex<State>>,
    cloud: SharedCloud,
    exchange: Arc<Exchange>,
}

struct State {
    incoming: Incoming,
    /// Bytes until the connection is closed.
    cut_after: Option<u64>,
    received: u64,
    has_begun: bool,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Receiving {
    pub(crate) fn new(
        incoming: Incoming,
        cut_after: Option<u64>,
        cloud: SharedCloud,
        exchange: Arc<Exchange>,
    ) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                incoming,
                cut_after,
                received: 0,
                has_begun: false,
                wait: None,
            })),
            cloud,
            exchange,
        }
    }

    /// Bytes that came in, framing included.
    pub(crate) fn received(&self) -> u64 {
        self.state.lock().received
    }

    /// Reads the rest and throws it away: a client that is still sending would not see the answer, as
    /// closing a connection with unread bytes resets it. With `Expect: 100-continue` an unread body is
    /// not asked for.
    pub(crate) async fn drain(&mut self, expects_continue: bool) {
        if expects_continue && !self.state.lock().has_begun {
            return;
        }
        while let Some(Ok(_)) = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_frame(cx)).await
        {
        }
    }
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let mut state = this.state.lock();
        let state = &mut *state;
        state.has_begun = true;
        if let Some(wait) = &mut state.wait {
            std::task::ready!(wait.as_mut().poll(cx));
            state.wait = None;
        }
        let frame = match std::task::ready!(Pin::new(&mut state.incoming).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                this.exchange.set_broken();
                return Poll::Ready(Some(Err(io::Error::other(error))));
            }
        };
        let size = frame.data_ref().map_or(0, Bytes::len);
        state.received += size as u64;
        this.cloud.ledger.received(size as u64);
        if state.cut_after.is_some_and(|after| state.received > after) {
            this.exchange.set_broken();
            return Poll::Ready(Some(Err(io::Error::other("the upload was cut"))));
        }
        // The next piece is read when the line has carried this one.
        state.wait = this
            .cloud
            .faults
            .reserve_upload(size)
            .map(|wait| Box::pin(wait) as Pin<Box<dyn Future<Output = ()> + Send>>);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.state.lock().incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.state.lock().incoming.size_hint()
    }
}
