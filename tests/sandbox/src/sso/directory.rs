//! What IAM Identity Center remembers: clients, codes, tokens, and who may use which role.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::SignIn;
use crate::clock::Clock;
use crate::random::Random;
use crate::roles::RoleState;

/// How long the registration of a client, and a code that waits for the person, are good for. The
/// lengths are those of AWS.
const REGISTRATION: Duration = Duration::from_secs(90 * 24 * 3600);
pub(super) const CODE: Duration = Duration::from_secs(600);

/// How long an access token is good for, with a refresh token beside it and without.
const WITH_REFRESH: Duration = Duration::from_secs(3600);
const ALONE: Duration = Duration::from_secs(8 * 3600);

/// How long a client has to wait between two questions.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// A registered client.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) issued: SystemTime,
    pub(super) expiration: SystemTime,
    /// Whether it asked for the scope that refresh tokens come with.
    has_scope: bool,
}

/// A code that waits for the person.
struct Waiting {
    client: String,
    user_code: String,
    expiration: SystemTime,
    asked: Option<SystemTime>,
    /// What the person said.
    decision: Option<bool>,
}

/// What a code has come to.
pub(super) enum Polled {
    Tokens(Tokens),
    Pending,
    TooSoon,
    Denied,
    Expired,
    Unknown,
}

/// Tokens as a client gets them.
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) life: Duration,
    pub(super) refresh: Option<String>,
}

/// All of it, by the sandbox's clock.
pub(crate) struct Directory {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    clients: HashMap<String, Client>,
    waiting: BTreeMap<u64, (String, Waiting)>,
    /// The ends of access tokens.
    access: HashMap<String, SystemTime>,
    /// The clients of refresh tokens.
    refresh: HashMap<String, String>,
    /// Every secret that ever was.
    secrets: HashSet<String>,
    roles: BTreeMap<String, Arc<RoleState>>,
    life: Option<Duration>,
    rotates: bool,
    issued: u64,
    started: u64,
}

impl Directory {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            inner: Mutex::default(),
        }
    }

    pub(super) fn grant(&self, name: &str, role: Arc<RoleState>) {
        self.inner.lock().roles.insert(name.to_owned(), role);
    }

    pub(super) fn role(&self, name: &str) -> Option<Arc<RoleState>> {
        self.inner.lock().roles.get(name).cloned()
    }

    pub(super) fn register(&self, has_scope: bool, random: &Random) -> Client {
        let issued = self.clock.now();
        let client = Client {
            id: random.url_safe(24),
            secret: random.url_safe(300),
            issued,
            expiration: issued + REGISTRATION,
            has_scope,
        };
        let mut inner = self.inner.lock();
        inner.secrets.insert(client.secret.clone());
        inner.clients.insert(client.id.clone(), client.clone());
        client
    }

    /// The client, if the secret is its own and the registration lasts.
    pub(super) fn client(&self, id: &str, secret: &str) -> Option<Client> {
        let inner = self.inner.lock();
        let client = inner.clients.get(id);
        let client = client.filter(|client| client.secret == secret);
        client
            .filter(|client| self.clock.now() < client.expiration)
            .cloned()
    }

    /// Makes a device code and a user code.
    pub(super) fn start(&self, client: &Client, random: &Random) -> (String, String) {
        let device_code = random.url_safe(64);
        let letters = random.base32(8);
        let user_code = format!("{}-{}", &letters[..4], &letters[4..]);
        let waiting = Waiting {
            client: client.id.clone(),
            user_code: user_code.clone(),
            expiration: self.clock.now() + CODE,
            asked: None,
            decision: None,
        };
        let mut inner = self.inner.lock();
        inner.started += 1;
        let number = inner.started;
        inner.secrets.insert(device_code.clone());
        inner.waiting.insert(number, (device_code.clone(), waiting));
        (device_code, user_code)
    }

    pub(super) fn pending(&self) -> Vec<String> {
        let now = self.clock.now();
        let inner = self.inner.lock();
        let waiting = inner.waiting.values().map(|(_, waiting)| waiting);
        waiting
            .filter(|waiting| waiting.decision.is_none() && now < waiting.expiration)
            .map(|waiting| waiting.user_code.clone())
            .collect()
    }

    pub(super) fn decide(&self, user_code: &str, approved: bool) -> bool {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let mut waiting = inner.waiting.values_mut().map(|(_, waiting)| waiting);
        let found = waiting.find(|waiting| {
            waiting.user_code == user_code && waiting.decision.is_none() && now < waiting.expiration
        });
        match found {
            Some(waiting) => {
                waiting.decision = Some(approved);
                true
            }
            None => false,
        }
    }

    /// Asks what a device code has come to. Once it gave tokens, it is good for nothing.
    pub(super) fn poll(&self, client: &Client, device_code: &str, random: &Random) -> Polled {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let found = inner
            .waiting
            .iter_mut()
            .find(|(_, (code, waiting))| code == device_code && waiting.client == client.id);
        let Some((number, (_, waiting))) = found else {
            return Polled::Unknown;
        };
        if now >= waiting.expiration {
            return Polled::Expired;
        }
        let asked = waiting.asked.replace(now);
        match waiting.decision {
            Some(false) => Polled::Denied,
            None if asked.is_some_and(|asked| now < asked + INTERVAL) => Polled::TooSoon,
            None => Polled::Pending,
            Some(true) => {
                let number = *number;
                inner.waiting.remove(&number);
                Polled::Tokens(inner.issue(client, now, random))
            }
        }
    }

    /// Gives tokens for a refresh token, if it is the client's.
    pub(super) fn refresh(&self, client: &Client, token: &str, random: &Random) -> Option<Tokens> {
        let mut inner = self.inner.lock();
        inner.refresh.get(token).filter(|id| **id == client.id)?;
        if inner.rotates {
            inner.refresh.remove(token);
        }
        Some(inner.issue(client, self.clock.now(), random))
    }

    pub(super) fn sign_in(&self, random: &Random) -> SignIn {
        let client = self.register(true, random);
        let now = self.clock.now();
        let tokens = self.inner.lock().issue(&client, now, random);
        SignIn {
            access_token: tokens.access,
            expires_at: now + tokens.life,
            refresh_token: tokens.refresh.unwrap_or_default(),
            client_id: client.id,
            client_secret: client.secret,
            registration_expires_at: client.expiration,
        }
    }

    pub(super) fn is_alive(&self, access_token: &str) -> bool {
        let inner = self.inner.lock();
        let end = inner.access.get(access_token);
        end.is_some_and(|end| self.clock.now() < *end)
    }

    pub(super) fn expire_access_tokens(&self) {
        self.inner.lock().access.clear();
    }

    pub(super) fn revoke_refresh_tokens(&self) {
        self.inner.lock().refresh.clear();
    }

    pub(super) fn expire_clients(&self) {
        self.inner.lock().clients.clear();
    }

    pub(super) fn set_token_life(&self, life: Duration) {
        self.inner.lock().life = Some(life);
    }

    pub(super) fn rotate_refresh_tokens(&self, rotate: bool) {
        self.inner.lock().rotates = rotate;
    }

    pub(super) fn issued_tokens(&self) -> u64 {
        self.inner.lock().issued
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        self.inner.lock().secrets.iter().cloned().collect()
    }
}

impl Inner {
    fn issue(&mut self, client: &Client, now: SystemTime, random: &Random) -> Tokens {
        let usual = if client.has_scope {
            WITH_REFRESH
        } else {
            ALONE
        };
        let life = self.life.unwrap_or(usual);
        let access = format!("aoaAAAAA{}", random.url_safe(200));
        let refresh = client
            .has_scope
            .then(|| format!("aorAAAAA{}", random.url_safe(200)));
        self.issued += 1;
        self.access.insert(access.clone(), now + life);
        self.secrets.insert(access.clone());
        if let Some(token) = &refresh {
            self.refresh.insert(token.clone(), client.id.clone());
            self.secrets.insert(token.clone());
        }
        Tokens {
            access,
            life,
            refresh,
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}
