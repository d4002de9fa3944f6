//! Whether the store does what the options of a mount ask of every write: told when mounting,
//! rather than at the first close.
//!
//! AWS refuses what it does not do when an upload is begun, which is aborted at once and has no
//! other effect. Other stores may overlook it: what was written there is looked at, and deleted.

use super::bucket::Bucket;
use super::failure::{Failure, Kind};
use super::s3::S3;
use super::verdict::Action;
use super::write::{Condition, Header, Payload, Settings};
use super::{Query, StoreError};
use crate::auth::Asker;

/// Accounts of nobody (docs.aws.amazon.com/accounts/latest/reference/manage-acct-identifiers.html:
/// twelve digits).
const STRANGERS: [&str; 2] = ["000000000000", "111111111111"];

/// What becomes of the options.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// Those that are refused, with the store's words: nothing can be written with them.
    pub(crate) refused: Option<(String, String)>,
    /// Those that are overlooked.
    pub(crate) overlooked: Vec<String>,
}

impl Bucket {
    /// Tries the options of the mount.
    ///
    /// Errors: if there is no session. What cannot be found out is not told.
    pub(crate) async fn try_options(&self, asker: &Asker) -> Result<Tried, StoreError> {
        let key = self.probe_key();
        let attempt = self.attempt(asker, Action::Write, &key).await?;
        let s3 = &attempt.lease().s3;
        let settings = s3.settings();
        let mut tried = Tried::default();
        if let Some(told) = words(settings)
            && let Err(why) = begin(s3, &key).await
        {
            // Without them it may be refused too: then it is not because of them.
            let plain = s3.with_settings(without(settings));
            if begin(&plain, &key).await.is_ok() {
                tried.refused = Some((told, why.text));
            }
            return Ok(tried);
        }
        if self.is_aws || !self.support().known {
            return Ok(tried);
        }
        if words(settings).is_some() {
            match written(s3, &key).await {
                Ok(overlooked) => tried.overlooked = overlooked,
                Err(why) => {
                    let plain = s3.with_settings(without(settings));
                    if written(&plain, &key).await.is_ok() {
                        tried.refused = words(settings).map(|told| (told, why.text));
                    }
                }
            }
        }
        if let Some(owner) = &settings.expected_bucket_owner
            && !is_owner_looked_at(s3, owner).await
        {
            let option = format!("--expected-bucket-owner {owner}");
            tried.overlooked.push(option);
        }
        Ok(tried)
    }
}

/// The options that say how objects are written, as they were typed.
fn words(settings: &Settings) -> Option<String> {
    let options = [
        ("--storage-class", &settings.storage_class),
        ("--sse", &settings.sse),
        ("--sse-kms-key-id", &settings.sse_kms_key_id),
        ("--acl", &settings.acl),
    ];
    let given = options.iter().filter_map(|(option, value)| {
        let value = value.as_deref()?;
        Some(format!("{option} {value}"))
    });
    let given: Vec<String> = given.collect();
    (!given.is_empty()).then(|| given.join(" "))
}

fn without(settings: &Settings) -> Settings {
    Settings {
        requester_pays: settings.requester_pays,
        expected_bucket_owner: settings.expected_bucket_owner.clone(),
        ..Settings::default()
    }
}

fn header() -> Header {
    Header {
        content_type: "application/octet-stream".to_owned(),
        ..Header::default()
    }
}

/// Begins an upload and aborts it.
async fn begin(s3: &S3, key: &str) -> Result<(), Failure> {
    let upload = s3.begin_upload(key, &header()).await?;
    let _ = s3.abort(key, &upload).await;
    Ok(())
}

/// Writes an object, looks at it, and deletes it. Returns what it lacks.
async fn written(s3: &S3, key: &str) -> Result<Vec<String>, Failure> {
    let nothing = Payload::Bytes(bytes::Bytes::new());
    match s3.put(key, &nothing, &header(), &Condition::Always).await {
        Err(failure) if failure.kind == Kind::Untold => {}
        put => drop(put?),
    }
    let looked = look(s3, key).await;
    s3.delete(key, &Condition::Always).await?;
    looked
}

async fn look(s3: &S3, key: &str) -> Result<Vec<String>, Failure> {
    let settings = s3.settings();
    let object = s3.head(key).await?;
    let facts = object.facts.unwrap_or_default();
    let mut lacks = Vec::new();
    if let Some(class) = &settings.storage_class
        && facts.storage_class.as_deref().unwrap_or("STANDARD") != class
    {
        lacks.push(format!("--storage-class {class}"));
    }
    if let Some(sse) = &settings.sse
        && facts.sse.as_ref() != Some(sse)
    {
        lacks.push(format!("--sse {sse}"));
    }
    if let Some(acl) = &settings.acl
        && let Some(group) = group_of(acl)
        && !s3.grants(key, group).await.unwrap_or(true)
    {
        lacks.push(format!("--acl {acl}"));
    }
    Ok(lacks)
}

/// Whom a canned ACL gives a right, besides owners
/// (docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl).
fn group_of(acl: &str) -> Option<&'static str> {
    match acl {
        "public-read" | "public-read-write" => Some("/groups/global/AllUsers"),
        "authenticated-read" => Some("/groups/global/AuthenticatedUsers"),
        _ => None,
    }
}

/// Whether a request that expects another owner is refused.
async fn is_owner_looked_at(s3: &S3, owner: &str) -> bool {
    let stranger = STRANGERS.into_iter().find(|stranger| *stranger != owner);
    let other = s3.with_settings(Settings {
        expected_bucket_owner: stranger.map(str::to_owned),
        ..s3.settings().clone()
    });
    let query = Query {
        limit: Some(1),
        ..Query::default()
    };
    match other.list(&query).await {
        Ok(_) => false,
        Err(failure) => !matches!(failure.kind, Kind::Unsupported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_as_they_were_typed() {
        let mut settings = Settings {
            expected_bucket_owner: Some("123456789012".to_owned()),
            ..Settings::default()
        };
        assert_eq!(words(&settings), None);
        settings.storage_class = Some("STANDARD_IA".to_owned());
        settings.acl = Some("public-read".to_owned());
        let told = words(&settings).unwrap();
        assert_eq!(told, "--storage-class STANDARD_IA --acl public-read");
        assert_eq!(words(&without(&settings)), None);
    }
}
