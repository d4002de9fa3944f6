//! A small, honest AWS on loopback: S3 and STS in process, for tests and the demo.
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
//! # What it is honest about
//!
//! Everything AWS refuses is refused with the same status, code and text: a wrong signature, an
//! unknown key, a missing, foreign or expired session token, a code that is wrong or was used, a
//! device that is somebody else's, a policy. Codes are RFC 6238, good once. Sessions expire by a
//! clock that only moves forward. Policies are evaluated, and what the evaluator does not know is
//! refused when a policy is set. HEAD never has a body. A body of `ExpiredToken` echoes the live
//! token, as AWS's does.
//!
//! # What it leaves out
//!
//! TLS, virtual-hosted buckets, versions, writes over the wire (they answer 501 `NotImplemented`),
//! roles, IAM, a listing of all buckets (403), and whatever else answers 501.
//!
//! # Map
//!
//! A request goes through `server` (the listener; faults, a wrong clock or region; the final form of
//! every answer), then `s3s` (HTTP, SigV4, XML), then `access` (session, policies) and `s3`, or `sts`.
//! What they share is in `cloud`. `policy` and `listing` are pure. `caller` is the only part that
//! tells who signed a request, and `refusal` the only one that words errors.

mod access;
mod body;
mod bucket;
mod caller;
mod clock;
mod cloud;
mod counts;
mod device;
mod exchange;
mod faults;
mod listing;
pub mod policies;
mod policy;
mod preconditions;
mod random;
mod refusal;
mod request;
mod s3;
mod sandbox;
mod server;
mod sessions;
mod store;
mod sts;
pub mod totp;
mod users;

pub use access::ExpiryStyle;
pub use bucket::{Bucket, PutOptions};
pub use clock::Clock;
pub use counts::{Counts, Kind, RequestRecord};
pub use device::Device;
pub use faults::{FOREVER, Faults, Matcher};
pub use policy::{MalformedPolicy, PolicyJson};
pub use sandbox::{Sandbox, SandboxBuilder, Skew};
pub use sessions::Sessions;
pub use users::User;
