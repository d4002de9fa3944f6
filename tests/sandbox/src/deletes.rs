//! DeleteObject and DeleteObjects.

use s3s::S3Request;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    ETagCondition, Error, ObjectIdentifier,
};

use crate::checksums::Verifier;
use crate::conditions::{ConditionalWrites, Conditions, Write};
use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::s3::Operations;
use crate::store::BucketState;

/// Amazon S3 API reference, `DeleteObjects`.
const MOST_KEYS: usize = 1000;

impl Operations {
    pub(crate) async fn delete(
        &self,
        req: S3Request<DeleteObjectInput>,
        exchange: &Exchange,
    ) -> Result<DeleteObjectOutput, Refusal> {
        let input = req.input;
        let bucket = self.bucket(&input.bucket)?;
        if input.version_id.is_some() {
            return Err(Refusal::s3("NotImplemented"));
        }
        if input.if_match_size.is_some() || input.if_match_last_modified_time.is_some() {
            // They are for directory buckets: the page of `DeleteObject`.
            return Err(Refusal::s3("NotImplemented").with("Header", "x-amz-if-match-size"));
        }
        let conditions = Conditions::read(&req.headers, Write::Delete, exchange)?;
        let conditions = conditions.on_implied(self.is_implied(&bucket, &input.key));
        bucket.delete(&input.key, &conditions, self.signature(exchange))?;
        Ok(DeleteObjectOutput::default())
    }

    pub(crate) async fn delete_many(
        &self,
        req: S3Request<DeleteObjectsInput>,
        exchange: &Exchange,
    ) -> Result<DeleteObjectsOutput, Refusal> {
        let bucket = self.bucket(&req.input.bucket)?;
        let mut verifier = Verifier::new(&req.headers)?;
        if !verifier.is_announced() {
            return Err(Refusal::new(
                400,
                "InvalidRequest",
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            ));
        }
        verifier.update(&exchange.document());
        verifier.finish(None)?;
        let delete = req.input.delete;
        if delete.objects.is_empty() || delete.objects.len() > MOST_KEYS {
            return Err(Refusal::s3("MalformedXML"));
        }
        let is_quiet = delete.quiet.unwrap_or(false);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for entry in delete.objects {
            let key = entry.key.clone();
            let may = self
                .authorize(
                    &req.extensions,
                    &req.input.bucket,
                    Some(&key),
                    "s3:DeleteObject",
                )
                .and_then(|()| match entry.e_tag {
                    Some(_) if exchange.conditional_writes == ConditionalWrites::All => self
                        .authorize(
                            &req.extensions,
                            &req.input.bucket,
                            Some(&key),
                            "s3:GetObject",
                        ),
                    _ => Ok(()),
                });
            match may.and_then(|()| self.delete_entry(&bucket, entry, exchange)) {
                Ok(()) if is_quiet => {}
                Ok(()) => deleted.push(DeletedObject {
                    key: Some(key),
                    ..DeletedObject::default()
                }),
                Err(refusal) => errors.push(Error {
                    code: Some(refusal.code.into_owned()),
                    key: Some(key),
                    message: Some(refusal.message.into_owned()),
                    ..Error::default()
                }),
            }
        }
        Ok(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        })
    }

    fn delete_entry(
        &self,
        bucket: &BucketState,
        entry: ObjectIdentifier,
        exchange: &Exchange,
    ) -> Result<(), Refusal> {
        if entry.version_id.is_some() || entry.size.is_some() || entry.last_modified_time.is_some()
        {
            return Err(Refusal::s3("NotImplemented"));
        }
        let etag = match exchange.conditional_writes {
            ConditionalWrites::All => entry.e_tag.map(ETagCondition::ETag),
            ConditionalWrites::Refused if entry.e_tag.is_some() => {
                return Err(Refusal::s3("NotImplemented"));
            }
            _ => None,
        };
        bucket.delete(
            &entry.key,
            &Conditions::on_etag(etag),
            self.signature(exchange),
        )
    }
}
