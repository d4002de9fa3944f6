//! The state that all requests share.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::access::ExpiryStyle;
use crate::caller::Caller;
use crate::clock::Clock;
use crate::counts::Ledger;
use crate::faults::Faults;
use crate::policy::condition::Context;
use crate::policy::{self, Decision, Question, Side};
use crate::random::Random;
use crate::refusal::Refusal;
use crate::sessions::Sessions;
use crate::store::Store;
use crate::users::Users;

/// One account in one region.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) users: Users,
    pub(crate) sessions: Sessions,
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) ledger: Ledger,
    pub(crate) expiry_style: Mutex<ExpiryStyle>,
}

impl Cloud {
    pub(crate) fn new(account: String, region: String, seed: Option<u64>) -> Self {
        let clock = Clock::default();
        let sessions = Sessions::new(clock.clone());
        Self {
            users: Users::new(account.clone()),
            account,
            region,
            random: Random::new(seed),
            store: Store::default(),
            faults: Faults::new(sessions.clone()),
            ledger: Ledger::default(),
            expiry_style: Mutex::default(),
            sessions,
            clock,
        }
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
        let bucket_policy = bucket
            .as_ref()
            .and_then(|(_, state)| state.as_ref()?.policy());
        let principal = caller.principal(&self.account);
        let question = Question {
            principal,
            action,
            resource,
            context: &context,
        };
        let decision = policy::decide(&caller.policies(), bucket_policy.as_deref(), question);
        let why = match decision {
            Decision::Allowed => {
                return match bucket {
                    Some((name, None)) => Err(Refusal::no_such_bucket(name)),
                    _ => Ok(()),
                };
            }
            Decision::ExplicitlyDenied(Side::Resource) => {
                "with an explicit deny in a resource-based policy".to_owned()
            }
            Decision::ExplicitlyDenied(Side::Identity) => {
                "with an explicit deny in an identity-based policy".to_owned()
            }
            Decision::ImplicitlyDenied => {
                format!("because no identity-based policy allows the {action} action")
            }
        };
        Err(match caller.arn() {
            Some(arn) => Refusal::access_denied(format!(
                "User: {arn} is not authorized to perform: {action} on resource: \"{resource}\" {why}"
            )),
            None => Refusal::s3("AccessDenied"),
        })
    }
}

/// The cloud as every part holds it.
pub(crate) type SharedCloud = Arc<Cloud>;
