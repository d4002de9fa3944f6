//! The real clients, and a socket for what they cannot show.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod forms;

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::upload_part::builders::UploadPartFluentBuilder;
use aws_sdk_s3::operation::upload_part_copy::builders::UploadPartCopyFluentBuilder;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use s3mfa_sandbox::{Bucket, Device, Role, Sandbox, User};

/// A sandbox with a user, her device, and a bucket with one object.
pub struct Scene {
    pub sandbox: Sandbox,
    pub alice: User,
    pub phone: Device,
    pub docs: Bucket,
}

impl Scene {
    pub fn new() -> Self {
        let sandbox = Sandbox::start().unwrap();
        let alice = sandbox.create_user("alice");
        let phone = sandbox.create_device(&alice);
        let docs = sandbox.create_bucket("docs");
        docs.put("hello.txt", "hello");
        Self {
            sandbox,
            alice,
            phone,
            docs,
        }
    }

    pub fn long_term(&self) -> Credentials {
        long_term(&self.alice)
    }

    pub fn s3(&self, credentials: &Credentials) -> aws_sdk_s3::Client {
        s3(&self.sandbox, credentials)
    }

    pub fn sts(&self, credentials: &Credentials) -> aws_sdk_sts::Client {
        sts(&self.sandbox, credentials)
    }

    /// A session with MFA.
    pub async fn mfa_session(&self) -> Credentials {
        let sts = self.sts(&self.long_term());
        let code = self.phone.unspent_code();
        let request = sts
            .get_session_token()
            .serial_number(self.phone.serial())
            .token_code(code);
        credentials(request.send().await.unwrap().credentials().unwrap())
    }

    /// A session without MFA.
    pub async fn plain_session(&self) -> Credentials {
        let sts = self.sts(&self.long_term());
        credentials(
            sts.get_session_token()
                .send()
                .await
                .unwrap()
                .credentials()
                .unwrap(),
        )
    }
}

/// A session of the role under the name `test`, which must be granted.
pub async fn assume(client: &aws_sdk_sts::Client, role: &Role) -> Credentials {
    let request = client.assume_role().role_arn(role.arn());
    let output = request.role_session_name("test").send().await.unwrap();
    credentials(output.credentials().unwrap())
}

/// The refusal of a session of the role under the name `test`.
pub async fn assume_refused(client: &aws_sdk_sts::Client, role: &str) -> Refused {
    let request = client.assume_role().role_arn(role);
    refused(request.role_session_name("test").send().await)
}

pub fn long_term(user: &User) -> Credentials {
    Credentials::new(
        user.access_key_id(),
        user.secret_access_key(),
        None,
        None,
        "test",
    )
}

/// The session's keys. The client is not told when they expire, so that it asks the server.
pub fn credentials(session: &aws_sdk_sts::types::Credentials) -> Credentials {
    let token = Some(session.session_token().to_owned());
    Credentials::new(
        session.access_key_id(),
        session.secret_access_key(),
        token,
        None,
        "test",
    )
}

pub fn s3(sandbox: &Sandbox, credentials: &Credentials) -> aws_sdk_s3::Client {
    s3_in(sandbox, credentials, sandbox.region())
}

pub fn s3_in(sandbox: &Sandbox, credentials: &Credentials, region: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(sandbox.endpoint())
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials.clone())
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .force_path_style(true)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

/// A client of a sandbox with TLS, which trusts that authority and no other. The endpoint is given,
/// because the certificate is for more than one name.
pub fn s3_trusting(
    (sandbox, endpoint): (&Sandbox, &str),
    credentials: &Credentials,
    authority: &str,
) -> aws_sdk_s3::Client {
    use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
    use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
    let trust = TrustStore::empty().with_pem_certificate(authority.as_bytes());
    let context = TlsContext::builder().with_trust_store(trust).build();
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context.unwrap())
        .build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .endpoint_url(endpoint)
        .region(Region::new(sandbox.region().to_owned()))
        .credentials_provider(credentials.clone())
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .force_path_style(true)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

pub fn sts(sandbox: &Sandbox, credentials: &Credentials) -> aws_sdk_sts::Client {
    sts_in(sandbox, credentials, sandbox.region())
}

pub fn sts_in(sandbox: &Sandbox, credentials: &Credentials, region: &str) -> aws_sdk_sts::Client {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(sandbox.endpoint())
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials.clone())
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    aws_sdk_sts::Client::from_conf(config)
}

pub fn ssooidc(sandbox: &Sandbox) -> aws_sdk_ssooidc::Client {
    let config = aws_sdk_ssooidc::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(sandbox.endpoint())
        .region(Region::new(sandbox.region().to_owned()))
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_ssooidc::Client::from_conf(config)
}

pub fn sso(sandbox: &Sandbox) -> aws_sdk_sso::Client {
    let config = aws_sdk_sso::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(sandbox.endpoint())
        .region(Region::new(sandbox.region().to_owned()))
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_sso::Client::from_conf(config)
}

/// A client that signs nothing.
pub fn sts_without_keys(sandbox: &Sandbox) -> aws_sdk_sts::Client {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(sandbox.endpoint())
        .region(Region::new(sandbox.region().to_owned()))
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_sts::Client::from_conf(config)
}

/// An error as it came over the wire.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub body: String,
}

impl Refused {
    pub fn is(&self, status: u16, code: &str) -> bool {
        self.status == status && self.code == code
    }
}

/// The refusal in a result that must be one.
pub fn refused<T: Debug, E: ProvideErrorMetadata + Debug>(
    result: Result<T, SdkError<E>>,
) -> Refused {
    let error = result.expect_err("the request was served");
    let response = error
        .raw_response()
        .unwrap_or_else(|| panic!("no response: {error:?}"));
    let status = response.status().as_u16();
    let body = String::from_utf8_lossy(response.body().bytes().unwrap_or_default()).into_owned();
    let meta = error.meta();
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Refused {
        status,
        code: text(meta.code()),
        message: text(meta.message()),
        body,
    }
}

pub async fn get(client: &aws_sdk_s3::Client, bucket: &str, key: &str) -> Result<String, Refused> {
    let result = client.get_object().bucket(bucket).key(key).send().await;
    match result {
        Ok(output) => {
            let bytes = output.body.collect().await.unwrap().into_bytes();
            Ok(String::from_utf8(bytes.to_vec()).unwrap())
        }
        error => Err(refused(error)),
    }
}

pub async fn put(
    client: &aws_sdk_s3::Client,
    bucket: &str,
    key: &str,
    body: impl Into<Vec<u8>>,
) -> Result<String, Refused> {
    let body = ByteStream::from(body.into());
    let request = client.put_object().bucket(bucket).key(key).body(body);
    match request.send().await {
        Ok(output) => Ok(output.e_tag().unwrap().to_owned()),
        error => Err(refused(error)),
    }
}

/// The bytes of an object, with a pattern that shows what is missing or out of place.
pub fn bytes(size: usize, seed: usize) -> Vec<u8> {
    (0..size).map(|n| ((n + seed) % 251) as u8).collect()
}

/// 5 MiB, the smallest part.
pub const PART: usize = 5 << 20;

/// A multipart upload in the hand of a test.
pub struct Multipart<'a> {
    pub client: &'a aws_sdk_s3::Client,
    pub key: &'a str,
    pub id: String,
    pub parts: Vec<CompletedPart>,
}

impl<'a> Multipart<'a> {
    pub async fn begin(client: &'a aws_sdk_s3::Client, key: &'a str) -> Self {
        let request = client.create_multipart_upload().bucket("docs").key(key);
        let id = request
            .send()
            .await
            .unwrap()
            .upload_id()
            .unwrap()
            .to_owned();
        Self {
            client,
            key,
            id,
            parts: Vec::new(),
        }
    }

    pub fn part_request(&self, number: i32, body: Vec<u8>) -> UploadPartFluentBuilder {
        let request = self.client.upload_part().bucket("docs").key(self.key);
        request
            .upload_id(&self.id)
            .part_number(number)
            .body(body.into())
    }

    pub async fn part(&mut self, number: i32, body: Vec<u8>) -> Result<String, Refused> {
        match self.part_request(number, body).send().await {
            Ok(output) => {
                let etag = output.e_tag().unwrap().to_owned();
                self.note(number, &etag);
                Ok(etag)
            }
            error => Err(refused(error)),
        }
    }

    pub fn copy_request(&self, number: i32, source: &str) -> UploadPartCopyFluentBuilder {
        let request = self.client.upload_part_copy().bucket("docs").key(self.key);
        request
            .upload_id(&self.id)
            .part_number(number)
            .copy_source(source)
    }

    pub fn note(&mut self, number: i32, etag: &str) {
        self.parts.retain(|part| part.part_number() != Some(number));
        let part = CompletedPart::builder().part_number(number).e_tag(etag);
        self.parts.push(part.build());
    }

    pub fn complete_request(&self) -> CompleteMultipartUploadFluentBuilder {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts.clone()));
        let request = self.client.complete_multipart_upload().bucket("docs");
        request
            .key(self.key)
            .upload_id(&self.id)
            .multipart_upload(parts.build())
    }

    pub async fn complete(&self) -> Result<String, Refused> {
        match self.complete_request().send().await {
            Ok(output) => Ok(output.e_tag().unwrap().to_owned()),
            error => Err(refused(error)),
        }
    }

    pub async fn abort(&self) -> Result<(), Refused> {
        let request = self.client.abort_multipart_upload().bucket("docs");
        let result = request.key(self.key).upload_id(&self.id).send().await;
        if result.is_ok() {
            return Ok(());
        }
        Err(refused(result))
    }
}

pub async fn head(client: &aws_sdk_s3::Client, bucket: &str, key: &str) -> Result<(), Refused> {
    let result = client.head_object().bucket(bucket).key(key).send().await;
    if result.is_ok() {
        Ok(())
    } else {
        Err(refused(result))
    }
}

pub async fn list(client: &aws_sdk_s3::Client, bucket: &str) -> Result<Vec<String>, Refused> {
    match client.list_objects_v2().bucket(bucket).send().await {
        Ok(page) => Ok(page
            .contents()
            .iter()
            .map(|object| object.key().unwrap().to_owned())
            .collect()),
        error => Err(refused(error)),
    }
}

/// A URL that is signed for an hour, for requests by hand.
pub fn presigning() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap()
}

/// Sends a request by hand and returns all bytes of the answer up to the end of the connection.
pub fn exchange(
    sandbox: &Sandbox,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", sandbox.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let host = sandbox.endpoint().trim_start_matches("http://");
    let target = target.trim_start_matches(sandbox.endpoint());
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    if !body.is_empty() {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
