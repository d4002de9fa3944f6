//! The check before every operation of S3: the session, then the policies.

use http::{HeaderMap, Method};
use s3s::S3Result;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::path::S3Path;
use s3s::s3_error;

use crate::attributes::text;
use crate::caller::{BadCredentials, Caller, token_of};
use crate::cloud::{Cloud, SharedCloud};
use crate::conditions::{ConditionalWrites, Conditions};
use crate::exchange::Exchange;
use crate::habits::Habit;
use crate::policy::condition::Context;
use crate::refusal::Refusal;

/// How S3 answers a session that has expired. HEAD never has a body.
///
/// Seen on real servers: AWS and others differ, and a client meets all of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpiryStyle {
    /// 400 `ExpiredToken`, as AWS; HEAD is a bare 400.
    #[default]
    Expired400,
    /// 403 `ExpiredToken`; HEAD is a bare 403.
    Expired403,
    /// 403 `AccessDenied`, as Ceph RGW; HEAD is a bare 403.
    AccessDenied403,
    /// 403 `AccessDeniedException`; HEAD is a bare 403.
    AccessDeniedException403,
    /// HEAD is a bare 400 and everything else 400 `ExpiredToken`. The same as
    /// [`Expired400`](Self::Expired400), by a name that says what a test is about.
    BareHead400,
    /// HEAD is a bare 403, everything else 400 `ExpiredToken`.
    BareHead403,
}

impl ExpiryStyle {
    fn refusal(self, token: &str, is_head: bool) -> Refusal {
        let mut expired = Refusal::expired_token(token);
        match self {
            Self::Expired400 | Self::BareHead400 => expired,
            Self::Expired403 => {
                expired.status = 403;
                expired
            }
            Self::BareHead403 => {
                expired.status = if is_head { 403 } else { 400 };
                expired
            }
            Self::AccessDenied403 => Refusal::s3("AccessDenied"),
            Self::AccessDeniedException403 => {
                Refusal::new(403, "AccessDeniedException", "Access Denied")
            }
        }
    }
}

/// Finds the secret that a signature is verified with. Dead sessions have theirs still: AWS tells an
/// expired token from a wrong signature.
pub(crate) struct Secrets(pub(crate) SharedCloud);

#[async_trait::async_trait]
impl S3Auth for Secrets {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if let Some(user) = self.0.users.by_access_key(access_key) {
            return Ok(SecretKey::from(user.secret_access_key()));
        }
        match self.0.sessions.by_access_key(access_key) {
            Some(session) => Ok(SecretKey::from(session.secret_access_key.as_str())),
            None => Err(s3_error!(InvalidAccessKeyId)),
        }
    }
}

/// Decides on requests whose signature is right.
pub(crate) struct Access(pub(crate) SharedCloud);

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let exchange = Exchange::of(cx.extensions_mut());
        match self.decide(cx, &exchange) {
            Ok(caller) => {
                // The operations ask again on behalf of the caller: may it list?
                cx.extensions_mut().insert(caller);
                Ok(())
            }
            Err(refusal) => Err(exchange.refuse(refusal)),
        }
    }
}

impl Access {
    fn decide(&self, cx: &S3AccessContext<'_>, exchange: &Exchange) -> Result<Caller, Refusal> {
        let cloud = &self.0;
        let is_head = cx.method() == Method::HEAD;
        // The token is ours to check: `s3s` leaves it alone.
        let token = token_of(cx.headers(), cx.uri());
        let access_key_id = cx.credentials().map(|keys| keys.access_key.as_str());
        let caller = match Caller::identify(cloud, access_key_id, token) {
            Ok(caller) => caller,
            Err(BadCredentials::Unknown(access_key_id)) => {
                return Err(Refusal::invalid_access_key_id(&access_key_id));
            }
            Err(BadCredentials::WrongToken(token)) => return Err(Refusal::invalid_token(&token)),
            Err(BadCredentials::Expired(session)) => {
                exchange.set_session(session.number);
                return Err(cloud.expiry_style.lock().refusal(&session.token, is_head));
            }
        };
        if let Caller::Session(session) = &caller {
            exchange.set_session(session.number);
        }
        let mut context = Context::default();
        if let Some(agent) = cx.headers().get("user-agent") {
            context.set("aws:UserAgent", String::from_utf8_lossy(agent.as_bytes()));
        }
        let operation = cx.s3_op().name();
        if matches!(operation, "ListObjectsV2" | "ListObjects") {
            let query = cx.uri().query().unwrap_or_default().as_bytes();
            for (name, value) in form_urlencoded::parse(query) {
                if matches!(name.as_ref(), "prefix" | "delimiter" | "max-keys") {
                    context.set(&format!("s3:{name}"), value);
                }
            }
        }
        match cx.s3_path() {
            S3Path::Root => return Err(no_buckets(&caller)),
            // Each key is decided on its own, and refused in its own entry of the answer.
            S3Path::Bucket { .. } if operation == "DeleteObjects" => {}
            S3Path::Bucket { bucket } => {
                let resource = format!("arn:aws:s3:::{bucket}");
                cloud.authorize(
                    &caller,
                    Some(bucket),
                    action_of(operation),
                    &resource,
                    context,
                )?;
            }
            S3Path::Object { bucket, key } => {
                let resource = format!("arn:aws:s3:::{bucket}/{key}");
                let further = further_actions(operation, cx.headers(), exchange);
                for action in [action_of(operation)].into_iter().chain(further) {
                    cloud.authorize(&caller, Some(bucket), action, &resource, context.clone())?;
                }
            }
        }
        if let Some(bucket) = cx.s3_path().get_bucket_name() {
            let owner = text(cx.headers(), "x-amz-expected-bucket-owner");
            check_owner(cloud, bucket, owner.as_deref(), cx.headers(), exchange)?;
        }
        Ok(caller)
    }
}

/// Refuses a request that expects another owner, or does not say that it pays where the requester does:
/// Amazon S3 user guide, "Verifying bucket ownership" and "Using Requester Pays".
pub(crate) fn check_owner(
    cloud: &Cloud,
    bucket: &str,
    expected: Option<&str>,
    headers: &HeaderMap,
    exchange: &Exchange,
) -> Result<(), Refusal> {
    let Some(bucket) = cloud.store.bucket(bucket) else {
        return Ok(());
    };
    if cloud.habits.has(Habit::OverlooksOwner) {
        return Ok(());
    }
    let settings = bucket.settings();
    let owner = settings.owner.as_deref().or(bucket.other_account());
    let owner = owner.unwrap_or(&cloud.account);
    if expected.is_some_and(|expected| expected != owner) {
        return Err(Refusal::s3("AccessDenied"));
    }
    if settings.requester_pays {
        if text(headers, "x-amz-request-payer").as_deref() != Some("requester") {
            return Err(Refusal::s3("AccessDenied"));
        }
        exchange.set_charged();
    }
    Ok(())
}

/// What a request takes besides the permission of its operation.
fn further_actions(
    operation: &str,
    headers: &HeaderMap,
    exchange: &Exchange,
) -> impl Iterator<Item = &'static str> + use<> {
    let makes_object = matches!(
        operation,
        "PutObject" | "CopyObject" | "CreateMultipartUpload"
    );
    let is_conditional = matches!(
        operation,
        "PutObject" | "CopyObject" | "CompleteMultipartUpload" | "DeleteObject"
    );
    let acl = makes_object && headers.contains_key("x-amz-acl");
    let tags = makes_object && headers.contains_key("x-amz-tagging");
    let etag = is_conditional
        && exchange.conditional_writes == ConditionalWrites::All
        && Conditions::names_an_etag(headers);
    [
        acl.then_some("s3:PutObjectAcl"),
        tags.then_some("s3:PutObjectTagging"),
        etag.then_some("s3:GetObject"),
    ]
    .into_iter()
    .flatten()
}

/// The sandbox never lists buckets: the program must not need to.
fn no_buckets(caller: &Caller) -> Refusal {
    match caller.arn() {
        Some(arn) => Refusal::access_denied(format!(
            "User: {arn} is not authorized to perform: s3:ListAllMyBuckets because no identity-based policy allows \
             the s3:ListAllMyBuckets action"
        )),
        None => Refusal::s3("AccessDenied"),
    }
}

/// The permission an operation takes: Amazon S3 user guide, "Required permissions for Amazon S3 API
/// operations". Operations that are not served take a permission of their own name.
fn action_of(operation: &str) -> &'static str {
    match operation {
        "GetObject" | "HeadObject" => "s3:GetObject",
        "ListObjectsV2" | "ListObjects" | "HeadBucket" => "s3:ListBucket",
        "ListObjectVersions" => "s3:ListBucketVersions",
        "GetBucketLocation" => "s3:GetBucketLocation",
        "GetBucketPolicy" => "s3:GetBucketPolicy",
        "GetBucketVersioning" => "s3:GetBucketVersioning",
        "GetObjectAttributes" => "s3:GetObjectAttributes",
        "PutObject"
        | "CreateMultipartUpload"
        | "UploadPart"
        | "UploadPartCopy"
        | "CompleteMultipartUpload"
        | "CopyObject" => "s3:PutObject",
        "AbortMultipartUpload" => "s3:AbortMultipartUpload",
        "ListMultipartUploads" => "s3:ListBucketMultipartUploads",
        "ListParts" => "s3:ListMultipartUploadParts",
        "DeleteObject" | "DeleteObjects" => "s3:DeleteObject",
        _ => "s3:Unsupported",
    }
}
