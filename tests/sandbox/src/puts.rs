//! PutObject.

use std::sync::Arc;

use s3s::S3Request;
use s3s::dto::{ETag, PutObjectInput, PutObjectOutput, ServerSideEncryption};

use crate::attributes::Attributes;
use crate::clock::whole_second;
use crate::conditions::{Conditions, Write};
use crate::exchange::Exchange;
use crate::intake::{check_announced, receive};
use crate::refusal::Refusal;
use crate::s3::Operations;
use crate::store::Object;

impl Operations {
    pub(crate) async fn put(
        &self,
        req: S3Request<PutObjectInput>,
        exchange: &Exchange,
    ) -> Result<PutObjectOutput, Refusal> {
        let input = req.input;
        let bucket = self.bucket(&input.bucket)?;
        if input.write_offset_bytes.is_some() || input.object_lock_mode.is_some() {
            // Appending is for directory buckets, and locks take versions.
            return Err(Refusal::s3("NotImplemented"));
        }
        let conditions = Conditions::read(&req.headers, Write::Put, exchange)?;
        let conditions = conditions.on_implied(self.is_implied(&bucket, &input.key));
        let attributes = Attributes::read(&req.headers, input.metadata, &self.kms_arn())?;
        let attributes = self.kept(attributes, &input.key);
        if bucket.settings().object_lock {
            check_announced(&req.headers, "Put Object")?;
        }
        let received = receive(input.body, &req.headers, req.trailing_headers).await?;
        let by = self.signature(exchange);
        let object = Object {
            etag: self.etag(&attributes, received.verified.md5),
            content: received.content,
            modified: whole_second(by.at),
            attributes: Arc::new(attributes),
            checksum: received.verified.checksum,
        };
        let object = bucket.store(&input.key, object, &conditions, by)?;
        let encryption = &object.attributes.encryption;
        let mut output = PutObjectOutput {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            ssekms_key_id: encryption.key().map(str::to_owned),
            server_side_encryption: Some(ServerSideEncryption::from(
                encryption.algorithm().to_owned(),
            )),
            ..PutObjectOutput::default()
        };
        crate::wire::set_checksum!(output, object.checksum.as_ref());
        Ok(output)
    }

    /// The tag of bytes with that MD5. With keys of KMS it is another one every time.
    pub(crate) fn etag(&self, attributes: &Attributes, md5: String) -> String {
        if attributes.encryption.has_plain_etags() {
            md5
        } else {
            self.0.random.hex(32).to_lowercase()
        }
    }
}
