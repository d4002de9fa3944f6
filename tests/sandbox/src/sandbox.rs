//! The sandbox as tests hold it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::access::ExpiryStyle;
use crate::bucket::Bucket;
use crate::clock::Clock;
use crate::cloud::{Cloud, SharedCloud};
use crate::counts::{Counts, RequestRecord};
use crate::device::Device;
use crate::faults::Faults;
use crate::habits::Habits;
use crate::policies::allow_all_s3;
use crate::policy::{Kind, MalformedPolicy, Policy, PolicyJson};
use crate::roles::Role;
use crate::server::Server;
use crate::sessions::Sessions;
use crate::sso::Sso;
use crate::tls::Tls;
use crate::users::User;

const ACCOUNT: &str = "123456789012";
const REGION: &str = "us-east-1";

/// A running sandbox: one account, one region, one port on loopback for all services.
///
/// It serves on threads of its own, so that it can be used from plain threads and from inside
/// asynchronous tests alike. Dropping it ends it.
#[derive(Debug)]
pub struct Sandbox {
    cloud: SharedCloud,
    endpoint: String,
    ca_pem: Option<String>,
    server: Server,
}

/// Settings of a sandbox that must be known before it starts.
#[derive(Clone, Debug, Default)]
pub struct SandboxBuilder {
    region: Option<String>,
    account: Option<String>,
    seed: Option<u64>,
    tls: bool,
}

/// Which clock is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// The server's, for the client is slow: requests look old to the server.
    ServerAhead,
    /// The client's, for it is fast: requests look to the server as if from the future.
    ServerBehind,
}

impl SandboxBuilder {
    /// Sets the region, `us-east-1` without it. Signatures for another one are refused.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the account id (12 digits), `123456789012` without it.
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Makes keys, tokens and device secrets the same in every run. Without it they are random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Has the port speak TLS, with a certificate for `localhost` and `127.0.0.1` from an authority of
    /// its own: [`Sandbox::ca_pem`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the sandbox on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no port can be bound, no thread started or no certificate made.
    pub fn start(self) -> io::Result<Sandbox> {
        let account = self.account.unwrap_or_else(|| ACCOUNT.to_owned());
        let region = self.region.unwrap_or_else(|| REGION.to_owned());
        let listener = Server::bind()?;
        let address = listener.local_addr()?;
        let tls = self.tls.then(Tls::new).transpose()?;
        let endpoint = match &tls {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let cloud = Arc::new(Cloud::new(account, region, self.seed, &endpoint));
        let (acceptor, ca_pem) = tls.map(|tls| (tls.acceptor, tls.ca_pem)).unzip();
        let server = Server::start(listener, acceptor, cloud.clone())?;
        Ok(Sandbox {
            cloud,
            endpoint,
            ca_pem,
            server,
        })
    }
}

impl Sandbox {
    /// Starts a sandbox with random keys in `us-east-1`.
    ///
    /// # Errors
    ///
    /// As [`SandboxBuilder::start`].
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Returns the settings to start another kind of sandbox with.
    pub fn builder() -> SandboxBuilder {
        SandboxBuilder::default()
    }

    /// Returns the endpoint URL of all services: `http://127.0.0.1:PORT`, or `https://localhost:PORT` with
    /// TLS.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the certificate of the authority that vouches for the port, if it speaks TLS. It is new
    /// in every run, whatever the seed.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// Returns the account id.
    pub fn account(&self) -> &str {
        &self.cloud.account
    }

    /// Returns the region.
    pub fn region(&self) -> &str {
        &self.cloud.region
    }

    /// Returns the clock of sessions, MFA ages and codes.
    pub fn clock(&self) -> &Clock {
        &self.cloud.clock
    }

    /// Sets the server's time of day apart from the client's. The server is the one that is right:
    /// its `Date` header, the ends of its sessions and the users' devices, which keep time by
    /// themselves, all go by its clock, and [`clock`](Self::clock) is that clock.
    ///
    /// Requests more than 15 minutes off are refused: S3 with `RequestTimeTooSkewed`, STS with
    /// `SignatureDoesNotMatch`. Zero puts the client right. Advancing [`clock`](Self::clock) causes no
    /// skew. A skew that takes the clock back makes codes of before it as spent as any old code is:
    /// [`Device::unspent_code`] advances the clock beyond them.
    pub fn skew(&self, by: Duration, which: Skew) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.cloud.clock.set_skew_millis(match which {
            Skew::ServerAhead => millis,
            Skew::ServerBehind => -millis,
        });
    }

    /// Creates a user with long-term keys and a policy that allows all of S3
    /// ([`policies::ALLOW_ALL_S3`](crate::policies::ALLOW_ALL_S3)). An existing name gives that user.
    pub fn create_user(&self, name: &str) -> User {
        let document = allow_all_s3();
        let policy = Policy::parse(&document, Kind::Identity).unwrap_or(Policy {
            statements: Vec::new(),
        });
        self.cloud
            .users
            .create(name, Arc::new(policy), &self.cloud.random)
    }

    /// Deletes a user's long-term keys, which then answer 403 `InvalidAccessKeyId`. Sessions live on.
    pub fn delete_access_key(&self, user: &User) {
        self.cloud.users.delete_access_key(user);
    }

    /// Adds a policy to those of a user.
    ///
    /// # Errors
    ///
    /// `MalformedPolicyDocument`, as [`create_role`](Self::create_role).
    pub fn put_user_policy(
        &self,
        user: &User,
        policy: impl Into<PolicyJson>,
    ) -> Result<(), MalformedPolicy> {
        user.add_policy(self.cloud.read_policy(policy.into(), Kind::Identity)?);
        Ok(())
    }

    /// Replaces all policies of a user, the one that allows all of S3 included. Without any, the user
    /// may do what bucket policies allow and no more.
    ///
    /// # Errors
    ///
    /// `MalformedPolicyDocument`, as [`create_role`](Self::create_role); the old policies stay then.
    pub fn set_user_policies<P: Into<PolicyJson>>(
        &self,
        user: &User,
        policies: Vec<P>,
    ) -> Result<(), MalformedPolicy> {
        let policies = policies
            .into_iter()
            .map(|policy| self.cloud.read_policy(policy.into(), Kind::Identity));
        user.set_policies(policies.collect::<Result<_, _>>()?);
        Ok(())
    }

    /// Gives a user a virtual MFA device, `arn:aws:iam::ACCOUNT:mfa/NAME`. Further devices of the user
    /// are `NAME-2`, `NAME-3` and so on.
    pub fn create_device(&self, user: &User) -> Device {
        let cloud = &self.cloud;
        cloud.devices.create_virtual(user, &cloud.random)
    }

    /// Gives a user a hardware MFA device. It works as a virtual one does, and its serial number is
    /// what is printed on it, such as `GAHT12345678`.
    pub fn create_hardware_device(&self, user: &User) -> Device {
        let cloud = &self.cloud;
        cloud.devices.create_hardware(user, &cloud.random)
    }

    /// Gives a user a passkey, and returns its serial number,
    /// `arn:aws:iam::ACCOUNT:u2f/user/USER/NAME-...`. It gives no codes, so STS has no use for it, but
    /// IAM lists it.
    pub fn create_passkey(&self, user: &User, name: &str) -> String {
        let cloud = &self.cloud;
        cloud.devices.create_passkey(user, name, &cloud.random)
    }

    /// Takes a device from its user: from now on its codes are good for nothing.
    pub fn delete_device(&self, device: &Device) {
        self.cloud.devices.delete(device.serial());
    }

    /// Creates a role with that trust policy and an identity policy that allows all of S3. An existing
    /// name gives that role, with its policies as if it were new.
    ///
    /// Who may assume it, the trust policy says: it names the caller, or it names the account and a
    /// policy of the caller's allows `sts:AssumeRole`.
    ///
    /// # Errors
    ///
    /// `MalformedPolicyDocument` where IAM refuses the policy, and where the sandbox does not know a
    /// condition operator, a condition key or another element: nothing is ignored silently.
    pub fn create_role(
        &self,
        name: &str,
        trust_policy: impl Into<PolicyJson>,
    ) -> Result<Role, MalformedPolicy> {
        Role::new(name, trust_policy.into(), self.cloud.clone())
    }

    /// Sets whether sessions of roles carry MFA to S3 that were assumed with a session of
    /// `GetSessionToken` which has it: the age then counts from that session's code. They do without
    /// this, as people see it in AWS, whose guides are silent about it.
    ///
    /// Sessions of roles that a user assumes with long-term keys never carry MFA, a code in the request
    /// or not: IAM guide, "Configuring MFA-protected API access".
    pub fn chained_roles_carry_mfa(&self, carry: bool) {
        let switch = &self.cloud.chained_roles_carry_mfa;
        switch.store(carry, Ordering::SeqCst);
    }

    /// Returns the ARN of the OpenID Connect provider that signs
    /// [web identity tokens](Self::web_identity_token), `arn:aws:iam::ACCOUNT:oidc-provider/oidc.example.com`:
    /// the `Federated` principal of trust policies.
    pub fn oidc_provider(&self) -> &str {
        self.cloud.web_identity.arn()
    }

    /// Issues a token about a subject, which is good for an hour and as often as it is used. Whoever
    /// bears it may assume the roles that trust the provider with that subject.
    pub fn web_identity_token(&self, subject: &str) -> String {
        let cloud = &self.cloud;
        cloud.web_identity.issue(subject, &cloud.random)
    }

    /// Expires every web identity token issued so far; they answer 400 `ExpiredTokenException`.
    pub fn expire_web_identity_tokens(&self) {
        self.cloud.web_identity.expire_all();
    }

    /// Returns IAM Identity Center.
    pub fn sso(&self) -> Sso {
        Sso::new(self.cloud.clone())
    }

    /// Creates a bucket. An existing name gives that bucket. Names that AWS would not have, such as
    /// those of fewer than 3 characters, are refused in every request with `InvalidBucketName`.
    pub fn create_bucket(&self, name: &str) -> Bucket {
        Bucket::new(name, None, self.cloud.clone())
    }

    /// Creates a bucket of another account (12 digits). Whoever of this account is to use it needs an
    /// allow in a policy of their own and in the bucket's, and refusals say no more than
    /// `Access Denied`. An existing name gives that bucket as it is.
    pub fn create_bucket_of(&self, name: &str, account: &str) -> Bucket {
        Bucket::new(name, Some(account), self.cloud.clone())
    }

    /// Returns the sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.cloud.sessions
    }

    /// Sets how S3 answers sessions that have expired, from now on.
    pub fn expiry_style(&self, style: ExpiryStyle) {
        *self.cloud.expiry_style.lock() = style;
    }

    /// Returns the faults.
    pub fn faults(&self) -> &Faults {
        &self.cloud.faults
    }

    /// Returns what the store does otherwise than AWS: nothing, until it is told to.
    pub fn habits(&self) -> &Habits {
        &self.cloud.habits
    }

    /// Returns the counters as they are now.
    pub fn counts(&self) -> Counts {
        self.cloud.ledger.counts()
    }

    /// Returns the latest requests (at most 20,000), the oldest first.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.cloud.ledger.records()
    }

    /// Sets all counters to zero and forgets the requests. Those under way are not counted when they
    /// end.
    pub fn reset_counts(&self) {
        self.cloud.ledger.reset();
    }
}
