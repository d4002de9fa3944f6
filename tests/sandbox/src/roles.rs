//! The account's roles, and who acts as one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::cloud::SharedCloud;
use crate::policies::allow_all_s3;
use crate::policy::{Kind, MalformedPolicy, Policy, PolicyJson};
use crate::random::Random;
use crate::sts::marks::Marks;

/// `MaxSessionDuration` of a role where nothing else was said: IAM API reference, `CreateRole`.
const USUAL_MAX_SESSION: Duration = Duration::from_secs(3600);

/// A handle to a role.
#[derive(Clone)]
pub struct Role {
    state: Arc<RoleState>,
    cloud: SharedCloud,
}

/// A role as requests see it.
pub(crate) struct RoleState {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) arn: String,
    settings: Mutex<Settings>,
}

/// What can be said about a role anew. Sessions meet it as it is at the time of their requests.
struct Settings {
    trust: Arc<Policy>,
    policies: Vec<Arc<Policy>>,
    max_session: Duration,
}

impl Role {
    pub(crate) fn new(
        name: &str,
        trust: PolicyJson,
        cloud: SharedCloud,
    ) -> Result<Self, MalformedPolicy> {
        let trust = cloud.read_policy(trust, Kind::Trust)?;
        let policies = vec![cloud.read_policy(allow_all_s3().into(), Kind::Identity)?];
        let state = cloud.roles.create(name, trust, policies, &cloud.random);
        Ok(Self { state, cloud })
    }

    pub(crate) fn state(&self) -> Arc<RoleState> {
        self.state.clone()
    }

    /// Returns the name, such as `reader`.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Returns the ARN, `arn:aws:iam::ACCOUNT:role/NAME`.
    pub fn arn(&self) -> &str {
        &self.state.arn
    }

    /// Returns the unique id, `AROA...`.
    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// Sets who may assume the role, from now on. Sessions that were issued before live on.
    ///
    /// # Errors
    ///
    /// `MalformedPolicyDocument`, as [`Sandbox::create_role`](crate::Sandbox::create_role).
    pub fn set_trust_policy(&self, policy: impl Into<PolicyJson>) -> Result<(), MalformedPolicy> {
        let trust = self.cloud.read_policy(policy.into(), Kind::Trust)?;
        self.state.settings.lock().trust = trust;
        Ok(())
    }

    /// Replaces the policies that say what the role's sessions may do, the one that allows all of S3
    /// ([`policies::ALLOW_ALL_S3`](crate::policies::ALLOW_ALL_S3)) included.
    ///
    /// # Errors
    ///
    /// `MalformedPolicyDocument`; the old policies stay then.
    pub fn set_policies<P: Into<PolicyJson>>(
        &self,
        policies: Vec<P>,
    ) -> Result<(), MalformedPolicy> {
        let policies = policies
            .into_iter()
            .map(|policy| self.cloud.read_policy(policy.into(), Kind::Identity))
            .collect::<Result<_, _>>()?;
        self.state.settings.lock().policies = policies;
        Ok(())
    }

    /// Sets the longest session that may be asked for, an hour without it. AWS wants 1 to 12 hours;
    /// here it may be less, and whoever asks for no length then gets no more than that.
    pub fn set_max_session(&self, longest: Duration) {
        self.state.settings.lock().max_session = longest;
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role")
            .field("arn", &self.state.arn)
            .finish_non_exhaustive()
    }
}

impl RoleState {
    pub(crate) fn trust(&self) -> Arc<Policy> {
        self.settings.lock().trust.clone()
    }

    pub(crate) fn policies(&self) -> Vec<Arc<Policy>> {
        self.settings.lock().policies.clone()
    }

    pub(crate) fn max_session(&self) -> Duration {
        self.settings.lock().max_session
    }
}

/// Somebody who acts as a role.
pub(crate) struct RoleSession {
    pub(crate) role: Arc<RoleState>,
    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    pub(crate) arn: String,
    /// `AROA...:SESSION`.
    pub(crate) id: String,
    pub(crate) marks: Marks,
}

impl RoleSession {
    pub(crate) fn new(role: Arc<RoleState>, account: &str, name: &str) -> Self {
        Self {
            arn: format!("arn:aws:sts::{account}:assumed-role/{}/{name}", role.name),
            id: format!("{}:{name}", role.id),
            marks: Marks::default(),
            role,
        }
    }

    /// The same with marks.
    pub(crate) fn marked(self, marks: Marks) -> Self {
        Self { marks, ..self }
    }
}

/// All roles of the account.
pub(crate) struct Roles {
    account: String,
    by_arn: Mutex<BTreeMap<String, Arc<RoleState>>>,
}

impl Roles {
    pub(crate) fn new(account: String) -> Self {
        Self {
            account,
            by_arn: Mutex::default(),
        }
    }

    /// Creates a role, or gives the one that has the name already its policies anew.
    fn create(
        &self,
        name: &str,
        trust: Arc<Policy>,
        policies: Vec<Arc<Policy>>,
        random: &Random,
    ) -> Arc<RoleState> {
        let settings = Settings {
            trust,
            policies,
            max_session: USUAL_MAX_SESSION,
        };
        let arn = format!("arn:aws:iam::{}:role/{name}", self.account);
        let mut by_arn = self.by_arn.lock();
        if let Some(role) = by_arn.get(&arn) {
            *role.settings.lock() = settings;
            return role.clone();
        }
        let role = Arc::new(RoleState {
            name: name.to_owned(),
            id: format!("AROA{}", random.base32(17)),
            arn: arn.clone(),
            settings: Mutex::new(settings),
        });
        by_arn.insert(arn, role.clone());
        role
    }

    pub(crate) fn by_arn(&self, arn: &str) -> Option<Arc<RoleState>> {
        self.by_arn.lock().get(arn).cloned()
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roles")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}
