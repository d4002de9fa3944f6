//! The state that all requests share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use crate::access::ExpiryStyle;
use crate::caller::Caller;
use crate::clock::Clock;
use crate::counts::Ledger;
use crate::devices::Devices;
use crate::faults::Faults;
use crate::habits::Habits;
use crate::policy::condition::Context;
use crate::policy::principal::role_of_session;
use crate::policy::{
    self, Decision, Kind, MalformedPolicy, Policy, PolicyJson, Question, Rule, Side,
};
use crate::random::Random;
use crate::refusal::Refusal;
use crate::roles::Roles;
use crate::sessions::Sessions;
use crate::sso::Directory;
use crate::store::Store;
use crate::users::Users;
use crate::web_identity::Provider;

/// One account in one region.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) users: Users,
    pub(crate) devices: Devices,
    pub(crate) roles: Roles,
    pub(crate) web_identity: Provider,
    pub(crate) sso: Directory,
    pub(crate) sso_start_url: String,
    /// Whether the port speaks TLS.
    pub(crate) is_secure: bool,
    pub(crate) sessions: Sessions,
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) habits: Habits,
    pub(crate) ledger: Ledger,
    pub(crate) expiry_style: Mutex<ExpiryStyle>,
    /// Whether a role that is assumed with a session that has MFA has it too.
    pub(crate) chained_roles_carry_mfa: AtomicBool,
}

impl Cloud {
    pub(crate) fn new(account: String, region: String, seed: Option<u64>, endpoint: &str) -> Self {
        let clock = Clock::default();
        let sessions = Sessions::new(clock.clone());
        Self {
            users: Users::new(account.clone()),
            devices: Devices::new(account.clone(), clock.clone()),
            roles: Roles::new(account.clone()),
            web_identity: Provider::new(&account, clock.clone()),
            sso: Directory::new(clock.clone()),
            sso_start_url: format!("{endpoint}/start"),
            is_secure: endpoint.starts_with("https://"),
            account,
            region,
            random: Random::new(seed),
            store: Store::default(),
            faults: Faults::new(sessions.clone()),
            habits: Habits::default(),
            ledger: Ledger::default(),
            expiry_style: Mutex::default(),
            chained_roles_carry_mfa: AtomicBool::new(true),
            sessions,
            clock,
        }
    }

    /// Reads a policy, and looks up the principals it names: AWS refuses those that do not exist.
    pub(crate) fn read_policy(
        &self,
        policy: PolicyJson,
        kind: Kind<'_>,
    ) -> Result<Arc<Policy>, MalformedPolicy> {
        let of_kind = |malformed: MalformedPolicy| match kind {
            Kind::Bucket(_) => malformed,
            Kind::Identity | Kind::Trust => malformed.of_iam(),
        };
        let policy = Policy::parse(&policy.into_value().map_err(of_kind)?, kind)?;
        if let Some(arn) = policy.named_arns().find(|arn| !self.has_principal(arn)) {
            return Err(of_kind(MalformedPolicy::principal(arn)));
        }
        Ok(Arc::new(policy))
    }

    fn has_principal(&self, arn: &str) -> bool {
        let role = role_of_session(arn);
        let role = role.as_deref().unwrap_or(arn);
        self.users.has_arn(arn) || self.roles.by_arn(role).is_some()
    }

    /// Decides on a request to S3, and words the refusal.
    pub(crate) fn authorize(
        &self,
        caller: &Caller,
        bucket: Option<&str>,
        action: &str,
        resource: &str,
        mut context: Context,
    ) -> Result<(), Refusal> {
        caller.describe(self, &mut context);
        let bucket = bucket.map(|name| (name, self.store.bucket(name)));
        let state = bucket.as_ref().and_then(|(_, state)| state.as_ref());
        let other_account = state.and_then(|state| state.other_account());
        if let Some(account) = other_account {
            context.set("s3:ResourceAccount", account);
        }
        let question = Question {
            principal: caller.principal(&self.account),
            action,
            resource,
            context: &context,
        };
        // Nobody is of no account, and has no policies.
        let rule = match caller {
            Caller::Anonymous => Rule::SameAccount,
            _ if other_account.is_some() => Rule::OtherAccount,
            _ => Rule::SameAccount,
        };
        let bucket_policy = state.and_then(|state| state.policy());
        let own_policies = caller.policies();
        let decision = policy::decide(rule, &own_policies, bucket_policy.as_deref(), question);
        match (decision, bucket) {
            (Decision::Allowed, Some((name, None))) => Err(Refusal::no_such_bucket(name)),
            (Decision::Allowed, _) => Ok(()),
            // Across accounts the reason is nobody's business: IAM guide, "Troubleshoot access denied
            // error messages".
            (_, Some((_, Some(state)))) if state.other_account().is_some() => {
                Err(Refusal::s3("AccessDenied"))
            }
            (denied, _) => Err(denial(caller, action, &format!("\"{resource}\""), denied)),
        }
    }

    /// Decides on a request to IAM, and words the refusal, which calls the resource by another name.
    pub(crate) fn authorize_iam(
        &self,
        caller: &Caller,
        action: &str,
        resource: &str,
        called: &str,
    ) -> Result<(), Refusal> {
        let mut context = Context::default();
        caller.describe(self, &mut context);
        let question = Question {
            principal: caller.principal(&self.account),
            action,
            resource,
            context: &context,
        };
        let decision = policy::decide(Rule::SameAccount, &caller.policies(), None, question);
        match decision {
            Decision::Allowed => Ok(()),
            denied => Err(denial(caller, action, called, denied)),
        }
    }
}

fn denial(caller: &Caller, action: &str, resource: &str, decision: Decision) -> Refusal {
    let why = match decision {
        Decision::ExplicitlyDenied(Side::Resource) => {
            "with an explicit deny in a resource-based policy".to_owned()
        }
        Decision::ExplicitlyDenied(Side::Identity) => {
            "with an explicit deny in an identity-based policy".to_owned()
        }
        Decision::Allowed | Decision::ImplicitlyDenied => {
            format!("because no identity-based policy allows the {action} action")
        }
    };
    match caller.arn() {
        Some(arn) => Refusal::access_denied(format!(
            "User: {arn} is not authorized to perform: {action} on resource: {resource} {why}"
        )),
        None => Refusal::s3("AccessDenied"),
    }
}

/// The cloud as every part holds it.
pub(crate) type SharedCloud = Arc<Cloud>;
