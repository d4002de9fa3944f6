//! The way of a request through faults and checks to its service, and back with the answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use s3s::Body;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::sync::watch;

use crate::access::{Access, Secrets};
use crate::answers::Answers;
use crate::body::ServedBody;
use crate::cloud::SharedCloud;
use crate::counts::{Kind, Outcome, Ticket};
use crate::exchange::Exchange;
use crate::faults::Network;
use crate::habits::Habit;
use crate::query;
use crate::receiving::Receiving;
use crate::refusal::Refusal;
use crate::request::Call;
use crate::s3::Operations;
use crate::service::{Door, Service};
use crate::sight::refuse_on_sight;
use crate::sso;

/// The largest document for a service other than S3 that is read.
const LARGEST_REQUEST: usize = 64 * 1024;

/// The largest answer of `s3s` that is taken over; listings are about 500 KiB at most.
const LARGEST_DOCUMENT: usize = 64 * 1024 * 1024;

/// How long the rest of a refused request is read before it is answered.
const DRAIN: Duration = Duration::from_secs(5);

/// Stands before all services.
pub(crate) struct Front {
    cloud: SharedCloud,
    service: S3Service,
}

fn service(cloud: SharedCloud) -> S3Service {
    let mut config = S3Config::default();
    // The front checks the time itself, against a clock that tests can skew.
    config.presigned_url_max_skew_time_secs = u32::MAX;
    let mut builder = S3ServiceBuilder::new(Operations(cloud.clone()));
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(Secrets(cloud.clone()));
    builder.set_access(Access(cloud));
    builder.build()
}

/// Enters the outcome in the books, also when the client gives up and the request is dropped.
struct Entry<'a> {
    cloud: &'a SharedCloud,
    ticket: Ticket,
    kind: Kind,
    exchange: Arc<Exchange>,
    body: Option<Receiving>,
    answer: Option<(u16, Option<String>)>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let (status, code) = match self.answer.take() {
            Some((status, code)) => (Some(status), code),
            None => (None, None),
        };
        let session = self.exchange.session();
        self.cloud.ledger.ended(
            self.ticket,
            self.kind,
            Outcome {
                status,
                code,
                session,
                code_was_spent: self.exchange.code_was_spent(),
                bytes_received: self.body.as_ref().map_or(0, Receiving::received),
            },
        );
    }
}

impl Front {
    pub(crate) fn new(cloud: SharedCloud) -> Self {
        Self {
            service: service(cloud.clone()),
            cloud,
        }
    }

    pub(crate) fn watch_network(&self) -> watch::Receiver<Network> {
        self.cloud.faults.watch_network()
    }

    /// An error closes the connection.
    pub(crate) async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> io::Result<Response<ServedBody>> {
        if self.cloud.faults.network_now() != Network::Up {
            // It was on its way in when the network went down; whoever carries the connection will
            // notice in a moment.
            std::future::pending::<()>().await;
        }
        let (parts, incoming) = request.into_parts();
        let (mut incoming, mut document) = (Some(incoming), Bytes::new());
        let door = Door::of(&parts);
        if door != Door::S3
            && let Some(incoming) = incoming.take()
        {
            let collected = Limited::new(incoming, LARGEST_REQUEST).collect().await;
            document = collected.map_err(io::Error::other)?.to_bytes();
        }
        let call = Call::read(&parts, door, &document);
        let faults = &self.cloud.faults;
        let ticket = self.cloud.ledger.arrived(&call);
        let hits = faults.take(&call);
        let mut exchange = Exchange::new(
            call.kind,
            faults.conditional_writes_now(),
            faults.completed_uploads_now(),
            hits.conflict,
        );
        exchange.misses_parts = self.cloud.habits.has(Habit::MatchMissesParts);
        let exchange = Arc::new(exchange);
        let receiving = incoming.map(|incoming| {
            Receiving::new(
                incoming,
                hits.cut_upload,
                self.cloud.clone(),
                exchange.clone(),
            )
        });
        let mut entry = Entry {
            cloud: &self.cloud,
            ticket,
            kind: call.kind,
            exchange: exchange.clone(),
            body: receiving.clone(),
            answer: None,
        };

        if hits.stall {
            faults.hold().await;
        }
        if !hits.latency.is_zero() {
            tokio::time::sleep(hits.latency).await;
        }
        if hits.drop {
            return Err(io::Error::other("the connection was dropped"));
        }
        if hits.expire_before {
            faults.expire_sessions();
        }
        let answer = match refuse_on_sight(&self.cloud, &call, &hits) {
            Some(refusal) => Err(refusal),
            None => match call.kind.service() {
                Service::Query(service) => {
                    query::answer(&self.cloud, service, &parts, &document, &exchange)
                }
                Service::Json(_) => sso::answer(&self.cloud, call.kind, &parts, &document),
                Service::S3 => {
                    let body = body_of(&call, &receiving, &exchange).await?;
                    let mut request = Request::from_parts(parts, body);
                    request.extensions_mut().insert(exchange.clone());
                    self.ask(request, &call, &exchange).await
                }
            },
        };
        if exchange.is_broken() {
            return Err(io::Error::other("the request ended early"));
        }
        if hits.expire_after {
            faults.expire_sessions();
        }
        if hits.hold_answer {
            faults.hold().await;
        }
        if hits.lose_response {
            return Err(io::Error::other("the response was lost"));
        }
        let code = answer
            .as_ref()
            .err()
            .map(|refusal| refusal.code.clone().into_owned());
        let answers = Answers(&self.cloud);
        let habits = &self.cloud.habits;
        let is_s3 = call.kind.service() == Service::S3;
        let mut response = match answer {
            Ok(response) if is_s3 => {
                let response = habits.change_document(response, &call);
                answers.success(response, &call, &exchange, hits.truncate)
            }
            Ok(response) => answers.success(response, &call, &exchange, hits.truncate),
            Err(refusal) => {
                if let Some(mut receiving) = receiving
                    && refusal.code != "EntityTooLarge"
                {
                    let rest = receiving.drain(call.expects_continue);
                    let _ = tokio::time::timeout(DRAIN, rest).await;
                }
                answers.refusal(refusal, &call)
            }
        };
        if is_s3 {
            habits.change_answer(&mut response, &call);
        }
        entry.answer = Some((response.status().as_u16(), code));
        Ok(response)
    }

    /// Has `s3s` serve the request, and takes refusals out of its answer.
    async fn ask(
        &self,
        request: Request<Body>,
        call: &Call,
        exchange: &Exchange,
    ) -> Result<Response<Bytes>, Refusal> {
        let response = self
            .service
            .call(request)
            .await
            .map_err(|_| Refusal::s3("InternalError"))?;
        if let Some(refusal) = exchange.take_refusal() {
            return Err(refusal);
        }
        let (parts, body) = response.into_parts();
        let document = match Limited::new(body, LARGEST_DOCUMENT).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(_) => return Err(Refusal::s3("InternalError")),
        };
        if parts.status.is_client_error() || parts.status.is_server_error() {
            let refusal = refusal_of(parts.status, &document);
            return Err(match refusal.code.as_ref() {
                "KeyTooLongError" => refusal
                    .with("Size", call.key.as_ref().map_or(0, String::len).to_string())
                    .with("MaxSizeAllowed", "1024"),
                _ => refusal,
            });
        }
        Ok(Response::from_parts(parts, document))
    }
}

/// The body of a request to S3, as `s3s` is to have it.
async fn body_of(
    call: &Call,
    receiving: &Option<Receiving>,
    exchange: &Exchange,
) -> io::Result<Body> {
    let Some(receiving) = receiving else {
        return Ok(Body::empty());
    };
    if call.kind != Kind::DeleteObjects {
        return Ok(Body::http_body(receiving.clone()));
    }
    let document = Limited::new(receiving.clone(), LARGEST_DOCUMENT)
        .collect()
        .await
        .map_err(io::Error::other)?
        .to_bytes();
    exchange.set_document(document.clone());
    Ok(Body::from(document))
}

/// Reads the code out of an error of `s3s`, which knows AWS's codes and statuses but not all texts.
fn refusal_of(status: StatusCode, document: &[u8]) -> Refusal {
    let document = String::from_utf8_lossy(document);
    let text = |name: &str| {
        let (_, rest) = document.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| text.to_owned())
    };
    let mut refusal = Refusal::s3(text("Code").as_deref().unwrap_or("InternalError"));
    refusal.status = status.as_u16();
    // Of a denial, the text says why: "Request has expired", for one.
    if refusal.code == "AccessDenied"
        && let Some(message) = text("Message")
    {
        refusal.message = message.into();
    }
    refusal
}
