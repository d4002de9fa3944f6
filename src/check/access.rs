//! Who wants in: keys, identity, clock, device, and what the keys alone get.

use aws_credential_types::Credentials;

use super::report::Outcome;
use super::{Check, Told};
use crate::auth::iam;
use crate::auth::identity::serial::is_passkey;
use crate::auth::identity::{Origin, Way};
use crate::auth::sts::{Caller, StsError};
use crate::store::failure::Kind;
use crate::store::inspect::{Inspector, Tried};
use crate::words::tame;

/// How to get a device that gives codes.
const ADD_DEVICE: &str = "add an authenticator app: IAM console, Security credentials, Assign MFA \
                          device";

/// Whose keys they are.
pub(super) enum Who {
    /// Somebody's.
    Known(Caller),
    /// Nobody tells.
    Untold,
    /// They are no good.
    Nobody,
}

impl Check {
    pub(super) fn keys(&mut self, keys: Option<&Credentials>) -> Told {
        let identity = &self.access.identity;
        let name = tame(&identity.profile);
        let (outcome, text) = match (&identity.origin, keys) {
            (_, Some(keys)) if keys.session_token().is_none() => (
                Outcome::Ok,
                format!("{name}: long-term keys, which may ask for sessions"),
            ),
            (_, Some(_)) => (
                Outcome::Note,
                format!(
                    "{name}: temporary keys, which are used as they are: whether they carry MFA \
                     depends on how they were got, and no code can add it"
                ),
            ),
            (Origin::Sso(sso), _) => (
                Outcome::Note,
                format!("{name}: IAM Identity Center at {}", tame(&sso.start_url)),
            ),
            (origin, _) => (Outcome::Note, format!("{name}: keys of {}", place(origin))),
        };
        self.tell("keys", outcome, text, None)
    }

    /// Who the keys belong to.
    pub(super) async fn identity(&mut self, keys: &Credentials) -> std::io::Result<Who> {
        let needs_sts = self.needs_sts(keys);
        if !needs_sts && self.has_no_sts() {
            let text = "not asked: this store has no STS, as far as is said (--sts-endpoint-url), and \
                        keys that are used as they are need none";
            self.tell("who", Outcome::Unknown, text.to_owned(), None)?;
            return Ok(Who::Untold);
        }
        let (outcome, text, fix, who) = match self.sts.caller(keys).await {
            Ok(caller) => (Outcome::Ok, caller.arn.clone(), None, Who::Known(caller)),
            // Other stores may not know the question; the keys may be as good as any.
            Err(StsError::Unsupported(_)) => (
                Outcome::Unknown,
                "this store does not tell whose keys they are".to_owned(),
                None,
                Who::Untold,
            ),
            // Where there is no STS, anything may answer in its place.
            Err(error) if !needs_sts && !self.aws.endpoints.is_s3_of_aws() => (
                Outcome::Unknown,
                format!("not told, and keys that are used as they are need no STS: {error}"),
                None,
                Who::Untold,
            ),
            Err(StsError::UnknownKey) => (
                Outcome::Problem,
                format!(
                    "AWS does not know the access key {}: it is deleted, or disabled",
                    tame(keys.access_key_id())
                ),
                Some(
                    "IAM console, Security credentials, Access keys: activate it or create a new \
                     one, then `aws configure`"
                        .to_owned(),
                ),
                Who::Nobody,
            ),
            Err(StsError::Ended) => (
                Outcome::Problem,
                "the keys are temporary, and have expired".to_owned(),
                Some("get new ones, or name the profile with the long-term keys".to_owned()),
                Who::Nobody,
            ),
            Err(error) => (Outcome::Problem, error.to_string(), None, Who::Nobody),
        };
        self.tell("who", outcome, text, fix)?;
        Ok(who)
    }

    pub(super) fn clock(&mut self) -> Told {
        let complaint = self.aws.clock.complaint();
        match complaint.as_str() {
            "" => self.tell("clock", Outcome::Ok, "as AWS's".to_owned(), None),
            _ => {
                let (text, fix) = complaint.split_once(". ").unwrap_or((&complaint, ""));
                self.tell(
                    "clock",
                    Outcome::Problem,
                    text.to_owned(),
                    Some(fix.to_owned()),
                )
            }
        }
    }

    pub(super) async fn device(&mut self, keys: &Credentials, caller: Option<&Caller>) -> Told {
        let user = caller.and_then(Caller::user);
        let listed = iam::mfa_devices(&self.aws, keys, user).await;
        let named = self.access.identity.serial.clone();
        let (outcome, text, fix) = match (listed, named) {
            (Ok(all), named) => {
                let (passkeys, codes): (Vec<_>, Vec<_>) =
                    all.into_iter().partition(|serial| is_passkey(serial));
                let shown = |serials: &[String]| {
                    let shown: Vec<_> = serials.iter().map(|serial| tame(serial)).collect();
                    shown.join(", ")
                };
                match (named, codes.as_slice()) {
                    (Some(named), codes) if codes.iter().any(|code| code == named.as_str()) => {
                        (Outcome::Ok, tame(named.as_str()), None)
                    }
                    (Some(named), codes) if !codes.is_empty() => (
                        Outcome::Problem,
                        format!(
                            "{} is not one of this user's devices, which are: {}",
                            tame(named.as_str()),
                            shown(codes)
                        ),
                        codes
                            .first()
                            .map(|right| format!("mfa_serial = {}", tame(right))),
                    ),
                    (_, []) if !passkeys.is_empty() => (
                        Outcome::Problem,
                        format!(
                            "only a passkey or security key ({}), which gives no code for AWS's API",
                            shown(&passkeys)
                        ),
                        Some(format!(
                            "{ADD_DEVICE}, beside it; or use a profile of `aws login`"
                        )),
                    ),
                    (_, []) => (
                        Outcome::Problem,
                        "this user has no MFA device".to_owned(),
                        Some(ADD_DEVICE.to_owned()),
                    ),
                    (None, codes) => (
                        Outcome::Note,
                        format!("none in the profile; IAM knows {}", shown(codes)),
                        codes
                            .first()
                            .map(|code| format!("mfa_serial = {}", tame(code))),
                    ),
                    (Some(_), _) => (Outcome::Unknown, "not found out".to_owned(), None),
                }
            }
            (Err(error), Some(named)) => (
                Outcome::Unknown,
                format!(
                    "{}, which cannot be compared: {error}",
                    tame(named.as_str())
                ),
                None,
            ),
            (Err(error), None) => (
                Outcome::Unknown,
                format!("none in the profile, and {error}"),
                Some("mfa_serial = arn:aws:iam::ACCOUNT:mfa/NAME in ~/.aws/config".to_owned()),
            ),
        };
        self.tell("device", outcome, text, fix)
    }

    /// Whether the keys get in without MFA, which they must not.
    pub(super) async fn without_mfa(&mut self, keys: &Credentials) -> std::io::Result<Tried> {
        let inspector = Inspector::new(&self.endpoint, &self.bucket, keys).await;
        let tried = inspector.list(&self.prefix).await;
        let is_doubtful = match &tried {
            Tried::Denied(_) => {
                let doubt = Inspector::doubt(&self.endpoint, &self.bucket, keys, &self.prefix);
                doubt.await.is_some()
            }
            _ => false,
        };
        let (outcome, text, fix) = match &tried {
            Tried::Allowed if self.access.identity.way == Way::Plain => (
                Outcome::Note,
                "the keys get in as they are: this bucket does not demand MFA of them".to_owned(),
                None,
            ),
            Tried::Allowed => {
                let advice = format!(
                    "to demand MFA of everybody: s3mfa-mount policy {} --kind bucket",
                    self.bucket
                );
                (
                    Outcome::Problem,
                    "the keys get in without MFA: this bucket does not demand it of them"
                        .to_owned(),
                    Some(advice),
                )
            }
            Tried::Denied(_) if is_doubtful => (
                Outcome::Unknown,
                "denied, in the words that this store has for a wrong secret as well".to_owned(),
                None,
            ),
            Tried::Denied(_) => (Outcome::Ok, "refused, as it should be".to_owned(), None),
            Tried::Failed(failure) => (
                Outcome::Problem,
                match failure.kind {
                    Kind::NotFound => {
                        format!("there is no bucket {:?}", self.bucket)
                    }
                    _ => format!("the bucket cannot be reached: {}", failure.text),
                },
                Some("check its name, the region and --endpoint-url".to_owned()),
            ),
        };
        self.tell("without MFA", outcome, text, fix)?;
        if matches!(tried, Tried::Denied(_)) && !self.has_no_sts() {
            self.session_without_mfa(keys).await?;
        }
        Ok(tried)
    }

    /// A session of the same user that no code was given for. Where this one gets in and the keys do
    /// not, the policy tests whether there is an MFA key rather than whether it is true.
    async fn session_without_mfa(&mut self, keys: &Credentials) -> Told {
        let Ok(issued) = self.sts.session_without_mfa(keys).await else {
            return Ok(());
        };
        let inspector = Inspector::new(&self.endpoint, &self.bucket, &issued.credentials).await;
        if !inspector.list(&self.prefix).await.is_allowed() {
            return Ok(());
        }
        let text = "a session gets in although no code was given for it: the policy tests whether \
                    aws:MultiFactorAuthPresent is there (Null), and in sessions it is, and false"
            .to_owned();
        let fix = format!(
            "its owner should test the age instead: s3mfa-mount policy {} --kind bucket",
            self.bucket
        );
        self.tell("without MFA", Outcome::Problem, text, Some(fix))
    }
}

/// Where keys come from, in words.
fn place(origin: &Origin) -> &'static str {
    match origin {
        Origin::Instance => "this instance",
        Origin::Container => "this container",
        Origin::WebIdentity { .. } => "a web identity",
        Origin::Login(_) => "`aws login`",
        Origin::Keys(_) | Origin::Process(_) | Origin::Sso(_) => "the profile",
    }
}
