//! The account's users and their keys.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::policy::Policy;
use crate::random::Random;

/// A user with one pair of long-term keys.
#[derive(Clone)]
pub struct User {
    state: Arc<State>,
}

struct State {
    name: String,
    id: String,
    arn: String,
    access_key_id: String,
    secret_access_key: String,
    policies: Mutex<Vec<Arc<Policy>>>,
}

impl User {
    /// Returns the name, such as `alice`.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Returns the unique id, `AIDA...`.
    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// Returns the ARN, `arn:aws:iam::ACCOUNT:user/NAME`.
    pub fn arn(&self) -> &str {
        &self.state.arn
    }

    /// Returns the long-term access key id, `AKIA...`.
    pub fn access_key_id(&self) -> &str {
        &self.state.access_key_id
    }

    /// Returns the long-term secret access key.
    pub fn secret_access_key(&self) -> &str {
        &self.state.secret_access_key
    }

    pub(crate) fn policies(&self) -> Vec<Arc<Policy>> {
        self.state.policies.lock().clone()
    }

    pub(crate) fn set_policies(&self, policies: Vec<Arc<Policy>>) {
        *self.state.policies.lock() = policies;
    }

    pub(crate) fn add_policy(&self, policy: Arc<Policy>) {
        self.state.policies.lock().push(policy);
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("arn", &self.state.arn)
            .finish_non_exhaustive()
    }
}

/// All users of the account.
#[derive(Debug)]
pub(crate) struct Users {
    account: String,
    directory: Mutex<Directory>,
}

#[derive(Debug, Default)]
struct Directory {
    by_name: BTreeMap<String, User>,
    by_access_key: HashMap<String, User>,
}

impl Users {
    pub(crate) fn new(account: String) -> Self {
        Self {
            account,
            directory: Mutex::default(),
        }
    }

    /// Creates a user, or returns the one that has the name already.
    pub(crate) fn create(&self, name: &str, policy: Arc<Policy>, random: &Random) -> User {
        let mut directory = self.directory.lock();
        if let Some(user) = directory.by_name.get(name) {
            return user.clone();
        }
        let user = User {
            state: Arc::new(State {
                name: name.to_owned(),
                id: format!("AIDA{}", random.base32(17)),
                arn: format!("arn:aws:iam::{}:user/{name}", self.account),
                access_key_id: format!("AKIA{}", random.base32(16)),
                secret_access_key: random.base64(30),
                policies: Mutex::new(vec![policy]),
            }),
        };
        directory.by_name.insert(name.to_owned(), user.clone());
        directory
            .by_access_key
            .insert(user.access_key_id().to_owned(), user.clone());
        user
    }

    pub(crate) fn delete_access_key(&self, user: &User) {
        self.directory
            .lock()
            .by_access_key
            .remove(user.access_key_id());
    }

    pub(crate) fn by_access_key(&self, access_key_id: &str) -> Option<User> {
        self.directory
            .lock()
            .by_access_key
            .get(access_key_id)
            .cloned()
    }

    pub(crate) fn has_arn(&self, arn: &str) -> bool {
        self.directory
            .lock()
            .by_name
            .values()
            .any(|user| user.arn() == arn)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<User> {
        self.directory.lock().by_name.get(name).cloned()
    }
}
