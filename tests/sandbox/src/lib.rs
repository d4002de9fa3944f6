//! A small, honest AWS on loopback: S3, STS, IAM and IAM Identity Center in process, for tests and the
//! demo.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use s3mfa_sandbox::{Sandbox, policies};
//!
//! let sandbox = Sandbox::start()?;
//! let alice = sandbox.create_user("alice");
//! let phone = sandbox.create_device(&alice);
//! let docs = sandbox.create_bucket("docs");
//! docs.put("hello.txt", "hello");
//! docs.set_policy(policies::require_mfa_null_age("docs"))?;
//! assert_eq!(phone.serial(), "arn:aws:iam::123456789012:mfa/alice");
//! assert_eq!(phone.code().len(), 6);
//! // Now point a client at `sandbox.endpoint()` with the keys of `alice`.
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//!
//! Buckets tell their region, their policy and whether versions are deleted with MFA.
//!
//! Objects are read (ranges, conditions), listed, put, copied, deleted one by one and up to 1000 at
//! once, and uploaded in parts: begin, upload, copy ranges on the server, list, complete, abort. Writes
//! take `If-Match` and `If-None-Match: *` and decide them and write under one lock. Digests that come
//! with a body are verified, in headers and trailers. Objects keep their headers, metadata, class,
//! encryption, ACL and tags.
//!
//! Sessions come from STS for real codes; those of roles come for whom the roles trust, the bearer of a
//! provider's token among them. IAM lists the MFA devices of users. With IAM Identity Center ([`Sso`])
//! people sign in by a code, and get the keys of roles that were granted to them.
//!
//! # What it is honest about
//!
//! Everything AWS refuses is refused with the same status, code and text: a wrong signature, an
//! unknown key, a missing, foreign or expired session token, a code that is wrong or was used, a
//! device that is somebody else's, a policy, a condition that does not hold, a part that is too small
//! or missing, a digest that does not match. Codes are RFC 6238, good once. Sessions expire by a
//! clock that tests advance. Policies are evaluated, and what the evaluator does not know is
//! refused when a policy is set. HEAD never has a body. A body of `ExpiredToken` echoes the live
//! token, as AWS's does.
//!
//! What a request has not brought in whole has no effect, and every effect is logged:
//! [`Bucket::history`] holds each object that was ever to be seen, in order.
//!
//! # What it leaves out
//!
//! Virtual-hosted buckets, deleting versions, object locks, SSE-C, session policies and tags, paths of
//! users and roles, all of IAM but ListMFADevices, the browser's part of signing in, a listing of all
//! buckets (403), and whatever else answers 501.
//!
//! # Where it is known to differ from AWS
//!
//! - Objects without a checksum of the client's get none; AWS adds a CRC64NVME.
//! - ACLs are kept and mean nothing; new buckets of AWS refuse most of them.
//! - Users and roles are of one account. Buckets may be of others ([`Sandbox::create_bucket_of`]), but
//!   objects belong to their bucket's, and where the requester pays, the owner does too.
//! - AWS spreads CompleteMultipartUpload and CopyObject of large objects over minutes, answers 200 at
//!   once and the rest when it is done. Here they are at once; [`Faults::error_inside_200`] is for
//!   errors that come after the status.
//! - Completed uploads are remembered for ever ([`CompletedUploads`]), and a refused completion leaves
//!   the upload as it was.
//! - ETags of copies of more than 256 MiB are not the MD5 of their bytes. With KMS they are random, as
//!   they are for clients of AWS.
//! - `If-Match: *` on PUT, copy and complete asks that there be an object; AWS documents it for deletes
//!   only. In the list of DeleteObjects it is not understood.
//! - Conditions in policies know no keys about writes, such as `s3:if-none-match`: policies that name
//!   them are refused.
//! - Whether roles that are assumed with a session carry its MFA is not documented by AWS; here they do
//!   ([`Sandbox::chained_roles_carry_mfa`]), but for roles that are assumed with a session of a role.
//! - ListMFADevices without a user name takes the permission for `*`, not for the caller alone, as
//!   people see it in AWS; its reference is silent about it.
//! - IAM Identity Center knows one person, and roles as they are: AWS makes a role of a permission set
//!   for each account, with a name of its own (`AWSReservedSSO_...`). Of its errors some texts are not
//!   known; codes and statuses are.
//! - There is one OpenID Connect provider, whose tokens are known by heart and not by their signature.
//! - STS and IAM are not asked with GET or with presigned URLs.
//! - What XML 1.0 cannot hold stands in documents as references, as AWS has it of control
//!   characters; of U+FFFE and U+FFFF that is not known.
//! - The size of an object has no limit.
//! - HTTP dates of odd form (`Expires`) are refused, where AWS keeps any text.
//!
//! # Map
//!
//! A request comes in through `server` (the listener, in the clear or with `tls`) and goes through `front` and `sight` (faults, a
//! wrong clock or region) to its `service`. What the service says gets its final form in `answers`, where
//! the store's `habits` change what AWS would say.
//!
//! For S3 there is `s3s` (HTTP, SigV4, XML), then `access` (session, policies) and `s3`, which names
//! the operations; `about` (buckets), `reads`, `lists`, `puts`, `copies`, `deletes`, `multipart` and
//! `upload_lists` are the work. Bodies come in through `receiving` (off the network) and `intake` (verified), and go out
//! through `body`. `store` holds objects and `uploads` under one lock, where `conditions` are decided
//! and `history` is written.
//!
//! `sts` and `iam` speak the protocol in `query` (forms, SigV4, constraints), and `sso` speaks JSON.
//! Who there is, `users`, `devices`, `roles`, `web_identity` and `sessions` know. What requests share is
//! in `cloud`.
//!
//! `policy`, `listing` and `content` are pure. `caller` is the only part that tells who signed a
//! request, and `refusal` the only one that words errors, but for those of one operation alone.

mod about;
mod access;
mod answers;
mod attributes;
mod body;
mod bucket;
mod caller;
mod checksums;
mod clock;
mod cloud;
mod conditions;
mod content;
mod copies;
mod counts;
mod deletes;
mod device;
mod devices;
mod exchange;
mod faults;
mod front;
mod habits;
mod history;
mod iam;
mod intake;
mod line;
mod listing;
mod listing_habits;
mod lists;
mod matcher;
mod multipart;
mod other_stores;
pub mod policies;
mod policy;
mod preconditions;
mod puts;
mod query;
mod random;
mod reads;
mod receiving;
mod refusal;
mod request;
mod roles;
mod s3;
mod sandbox;
mod server;
mod service;
mod sessions;
mod sight;
mod sso;
mod store;
mod sts;
mod tls;
pub mod totp;
mod upload_lists;
mod uploads;
mod users;
mod versions;
mod web_identity;
mod wire;

pub use access::ExpiryStyle;
pub use bucket::{Bucket, ObjectInfo, PartInfo, PutOptions, UploadInfo};
pub use clock::Clock;
pub use conditions::ConditionalWrites;
pub use counts::{Counts, Kind, RequestRecord};
pub use device::Device;
pub use faults::{FOREVER, Faults, Network};
pub use habits::{Habit, Habits};
pub use history::Mutation;
pub use matcher::Matcher;
pub use policy::{MalformedPolicy, PolicyJson};
pub use roles::Role;
pub use sandbox::{Sandbox, SandboxBuilder, Skew};
pub use sessions::Sessions;
pub use sso::{SignIn, Sso};
pub use uploads::CompletedUploads;
pub use users::User;
