//! Forms signed by AWS's own signer and sent by hand, for services whose client is not worth building.

#![allow(dead_code, clippy::unwrap_used)]

use std::time::SystemTime;

use aws_sdk_s3::config::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use s3mfa_sandbox::Sandbox;

use super::exchange;

pub const CONTENT_TYPE: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(raw: &str) -> Self {
        let (head, body) = raw.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    /// The texts of all elements of that name.
    pub fn all(&self, element: &str) -> Vec<&str> {
        let (start, end) = (format!("<{element}>"), format!("</{element}>"));
        let pieces = self.body.split(&start).skip(1);
        pieces
            .map(|piece| piece.split(&end).next().unwrap())
            .collect()
    }

    pub fn text(&self, element: &str) -> &str {
        self.all(element).first().copied().unwrap_or_default()
    }

    pub fn is(&self, status: u16, code: &str, message: &str) -> bool {
        self.status == status && self.text("Code") == code && self.text("Message") == message
    }
}

/// Posts a form that is signed for a service and a region.
pub fn post(
    sandbox: &Sandbox,
    (service, region): (&str, &str),
    keys: &Credentials,
    form: &str,
) -> Answer {
    let host = sandbox.endpoint().trim_start_matches("http://").to_owned();
    let identity = keys.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let headers = [("host", host.as_str()), CONTENT_TYPE];
    let body = SignableBody::Bytes(form.as_bytes());
    let request = SignableRequest::new("POST", sandbox.endpoint(), headers.into_iter(), body);
    let (signed, _) = sign(request.unwrap(), &params).unwrap().into_parts();
    let mut headers: Vec<_> = signed.headers().collect();
    headers.push(CONTENT_TYPE);
    Answer::read(&exchange(sandbox, "POST", "/", &headers, form))
}
