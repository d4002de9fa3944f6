//! The requests of listings, and their bodies as they came.

use std::fmt;
use std::sync::Arc;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::EncodingType;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextMut,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use http_body_util::Limited;
use parking_lot::Mutex;

use super::Flaw;
use super::document::Document;
use crate::store::Query;
use crate::store::failure::{Failure, Kind, causes};
use crate::store::s3::S3;

/// The largest answer that is read, in bytes. A thousand keys of 1,024 bytes that are all encoded
/// are three million; stores may have larger pages.
const LARGEST: usize = 32 << 20;

/// In which words listings are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// ListObjectsV2 rather than ListObjects.
    is_v2: bool,
    /// With `encoding-type=url`.
    encodes: bool,
}

impl Form {
    /// As AWS recommends it.
    pub(super) const MODERN: Self = Self {
        is_v2: true,
        encodes: true,
    };

    /// For stores that refuse that, the best first.
    pub(super) const OLDER: [Self; 3] = [
        Self {
            is_v2: false,
            encodes: true,
        },
        Self {
            is_v2: true,
            encodes: false,
        },
        Self {
            is_v2: false,
            encodes: false,
        },
    ];
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = if self.is_v2 {
            "ListObjectsV2"
        } else {
            "ListObjects"
        };
        let encoding = if self.encodes { "with" } else { "without" };
        write!(f, "{operation}, {encoding} encoding-type")
    }
}

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// At the first name.
    Beginning,
    /// Where this token says: `continuation-token`.
    Token(String),
    /// Behind this name, as ListObjects has it: `marker`.
    Marker(String),
    /// Behind this name, as ListObjectsV2 has it: `start-after`.
    StartAfter(String),
}

impl Place {
    /// Where the page behind this one starts, if there is or may be one.
    ///
    /// # Errors
    ///
    /// There is one, and nothing says where.
    pub(super) fn behind(
        page: &Document,
        marker: Option<String>,
        last: Option<&str>,
    ) -> Result<Option<Self>, Flaw> {
        let is_empty = page.len() == 0;
        match (page.is_truncated, &page.next_token) {
            // Without names and without a claim, the token is an ornament.
            (Some(false), _) if is_empty => return Ok(None),
            // Whatever it says beside: what there is a token for is there.
            (_, Some(token)) => return Ok(Some(Self::Token(token.clone()))),
            (Some(false), None) if marker.is_none() => return Ok(None),
            (None, None) if is_empty => return Ok(None),
            _ => {}
        }
        let is_v2 = page.is_v2 && marker.is_none();
        let name = marker.or_else(|| last.map(str::to_owned));
        let name = name.ok_or(Flaw::Endless)?;
        Ok(Some(match is_v2 {
            true => Self::StartAfter(name),
            false => Self::Marker(name),
        }))
    }

    /// Another way to say the same.
    pub(super) fn other(&self) -> Option<Self> {
        match self {
            Self::Marker(name) => Some(Self::StartAfter(name.clone())),
            Self::StartAfter(name) => Some(Self::Marker(name.clone())),
            Self::Beginning | Self::Token(_) => None,
        }
    }
}

/// What to ask for.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) query: Query,
    from: Place,
}

impl Query {
    /// A page of this listing.
    pub(super) fn ask(&self, from: Place) -> Ask {
        Ask {
            query: self.clone(),
            from,
        }
    }
}

/// Both operations take these, in the same words.
macro_rules! listing {
    ($request:expr, $s3:expr, $ask:expr, $form:expr) => {
        $request
            .bucket(&*$s3.bucket)
            .prefix(&$ask.query.prefix)
            .set_delimiter($ask.query.folded.then(|| "/".to_owned()))
            .set_max_keys($ask.query.limit)
            .set_encoding_type($form.encodes.then_some(EncodingType::Url))
            .set_request_payer($s3.payer())
            .set_expected_bucket_owner($s3.settings.expected_bucket_owner.clone())
    };
}

impl S3 {
    /// Asks for a listing. Returns the body as it came.
    pub(super) async fn body_of_listing(&self, ask: &Ask, form: Form) -> Result<Bytes, Failure> {
        let _slot = self.slot().await?;
        let body = Body::default();
        let is_v2 = match ask.from {
            Place::Beginning => form.is_v2,
            Place::Token(_) | Place::StartAfter(_) => true,
            Place::Marker(_) => false,
        };
        let refused = if is_v2 {
            let (token, start_after) = match &ask.from {
                Place::Token(token) => (Some(token.clone()), None),
                Place::StartAfter(name) => (None, Some(name.clone())),
                Place::Beginning | Place::Marker(_) => (None, None),
            };
            let request = listing!(self.client.list_objects_v2(), self, ask, form)
                .set_continuation_token(token)
                .set_start_after(start_after);
            let answer = request.customize().interceptor(body.clone()).send().await;
            answer.err().and_then(|error| self.refusal(&error))
        } else {
            let marker = match &ask.from {
                Place::Marker(name) => Some(name.clone()),
                Place::Beginning | Place::Token(_) | Place::StartAfter(_) => None,
            };
            let request = listing!(self.client.list_objects(), self, ask, form).set_marker(marker);
            let answer = request.customize().interceptor(body.clone()).send().await;
            answer.err().and_then(|error| self.refusal(&error))
        };
        match (refused, body.take()) {
            (Some(failure), _) => Err(failure),
            (None, Some(body)) => Ok(body),
            // It has begun well, and then there was no end.
            (None, None) => Err(Failure::new(
                Kind::Unreachable(false),
                self.generation,
                "the answer to a listing broke off",
            )),
        }
    }

    /// What an error says. `None` if it says only that the SDK cannot read the body: that is read
    /// here.
    fn refusal<E>(&self, error: &SdkError<E, HttpResponse>) -> Option<Failure>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let response = error.raw_response();
        match error {
            SdkError::ServiceError(_)
                if error.code().is_none() && response.is_some_and(|r| r.status().is_success()) =>
            {
                None
            }
            SdkError::ResponseError(_) => Some(Failure::new(
                Kind::Unreachable(false),
                self.generation,
                format!("the answer to a listing broke off: {}", causes(error)),
            )),
            _ => Some(Failure::read(self.generation, error)),
        }
    }
}

/// Keeps the body of an answer, whatever the SDK makes of it, and bounds it.
#[derive(Debug, Clone, Default)]
struct Body(Arc<Mutex<Option<Bytes>>>);

impl Body {
    fn take(&self) -> Option<Bytes> {
        self.0.lock().take()
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Body {
    fn name(&self) -> &'static str {
        "BodyOfListing"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.take();
        let body = std::mem::replace(context.response_mut().body_mut(), SdkBody::taken());
        let bounded = SdkBody::from_body_1_x(Limited::new(body, LARGEST));
        *context.response_mut().body_mut() = bounded;
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes();
        *self.0.lock() = body.map(Bytes::copy_from_slice);
        Ok(())
    }
}
