//! The listener, and its connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use crate::cloud::SharedCloud;
use crate::faults::Network;
use crate::front::Front;

/// Threads of the sandbox's own runtime.
const WORKERS: usize = 2;

/// A running server. Dropping it closes the listener and all connections.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Takes a free port of 127.0.0.1.
    pub(crate) fn bind() -> io::Result<TcpListener> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    pub(crate) fn start(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        cloud: SharedCloud,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("s3mfa-sandbox")
            .enable_all()
            .build()?;
        runtime.spawn(accept(listener, tls, Arc::new(Front::new(cloud))));
        Ok(Self {
            address,
            runtime: Some(runtime),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Waiting would panic when the sandbox is dropped inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, front: Arc<Front>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely; it passes.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        match tls.clone() {
            None => tokio::spawn(carry(serve(stream, front.clone()), front.clone())),
            Some(tls) => tokio::spawn(carry(serve_tls(stream, tls, front.clone()), front.clone())),
        };
    }
}

/// Serves a connection to its end. An error is a client that left or a fault that was asked for.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, front: Arc<Front>) {
    let service = service_fn(|request| front.clone().serve(request));
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn serve_tls(stream: TcpStream, tls: TlsAcceptor, front: Arc<Front>) {
    // A client that does not trust us, or speaks no TLS, has closed the connection.
    if let Ok(stream) = tls.accept(stream).await {
        serve(stream, front).await;
    }
}

/// Carries a connection for as long as the network does.
async fn carry(connection: impl Future<Output = ()>, front: Arc<Front>) {
    let mut network = front.watch_network();
    tokio::pin!(connection);
    loop {
        let state = *network.borrow_and_update();
        match state {
            Network::Up => tokio::select! {
                // A request that comes in after the network went down must not be served.
                biased;
                changed = network.changed() => if changed.is_err() { return },
                _ = &mut connection => return,
            },
            Network::Closing => return,
            Network::Silent => {
                let _ = network.changed().await;
                return;
            }
        }
    }
}
