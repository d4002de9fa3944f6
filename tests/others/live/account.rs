//! A user with a device, a role that trusts them, and a bucket: made in an account for one test, and
//! removed from it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use s3mfa_sandbox::totp;
use serde_json::{Value, json};

use crate::scene::{Mount, holds_within};
use crate::servers::{Server, tool};

/// How long AWS may take until what was made is known everywhere.
const SETTLING: Duration = Duration::from_secs(120);

/// Who makes everything, and where.
pub enum Account {
    /// A profile of the AWS CLI.
    Profile(String),
    Rehearsal(&'static Server),
}

/// Access key id, secret access key, session token.
#[derive(Clone)]
pub struct Keys(pub [String; 3]);

impl Keys {
    pub fn of(document: &Value) -> Self {
        let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        Self(["AccessKeyId", "SecretAccessKey", "SessionToken"].map(text))
    }
}

/// Seconds for which STS grants no session, and the CLI lets through.
pub const TOO_LONG: &str = "129601";

/// What is made in the account: a user with a device, a role that trusts them, a bucket.
pub struct Live {
    pub account: Account,
    pub region: String,
    pub name: String,
    home: tempfile::TempDir,
    number: String,
    pub keys: Keys,
    pub serial: String,
    seed: Vec<u8>,
    /// The step of the last code.
    spent: u64,
}

impl Live {
    pub fn new(account: Account) -> Self {
        let region = std::env::var("S3MFA_LIVE_REGION").unwrap_or_else(|_| "us-east-1".to_owned());
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let home = tempfile::Builder::new()
            .prefix("s3mfa-live")
            .tempdir()
            .unwrap();
        for directory in ["run", "mnt"] {
            std::fs::create_dir(home.path().join(directory)).unwrap();
        }
        let mut live = Self {
            account,
            region,
            name: format!("s3mfa-live-{}", since.unwrap().as_secs()),
            home,
            number: String::new(),
            keys: Keys(Default::default()),
            serial: String::new(),
            seed: Vec::new(),
            spent: 0,
        };
        live.make();
        live
    }

    pub fn cli(&self) -> Command {
        match &self.account {
            Account::Profile(profile) => {
                let mut command = Command::new("timeout");
                command.arg("120").arg(tool("aws"));
                command.env("AWS_PROFILE", profile);
                command.env("AWS_DEFAULT_REGION", &self.region);
                command.env("AWS_PAGER", "");
                command
            }
            Account::Rehearsal(server) => crate::place::aws(server),
        }
    }

    pub fn output(mut command: Command, args: &[&str]) -> Result<Value, String> {
        let output = command.args(args).args(["--output", "json"]).output();
        let output = output.unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// The CLI as the account's administrator.
    pub fn admin(&self, args: &[&str]) -> Value {
        Self::output(self.cli(), args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// The CLI with other keys.
    pub fn with(&self, keys: &Keys, args: &[&str]) -> Result<Value, String> {
        let mut command = self.cli();
        let [id, secret, token] = &keys.0;
        command.env_remove("AWS_PROFILE");
        command.env("AWS_ACCESS_KEY_ID", id);
        command.env("AWS_SECRET_ACCESS_KEY", secret);
        if !token.is_empty() {
            command.env("AWS_SESSION_TOKEN", token);
        }
        Self::output(command, args)
    }

    /// Repeats what AWS may not know everywhere yet.
    pub fn settled(&self, what: &str, step: impl Fn() -> Result<Value, String>) -> Value {
        let mut last = Err(String::new());
        holds_within(SETTLING, || {
            last = step();
            last.is_ok()
        });
        last.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    fn role(&self) -> String {
        format!("arn:aws:iam::{}:role/{}", self.number, self.name)
    }

    fn user(&self) -> String {
        format!("arn:aws:iam::{}:user/{}", self.number, self.name)
    }

    fn make(&mut self) {
        let caller = self.admin(&["sts", "get-caller-identity"]);
        self.number = caller["Account"].as_str().unwrap().to_owned();
        let name = self.name.clone();
        let (user, role, bucket) = (
            ["--user-name", &name],
            ["--role-name", &name],
            ["--bucket", &*name],
        );
        self.admin(&[&["iam", "create-user"], &user[..]].concat());
        let mine = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "s3:*",
             "Resource": [format!("arn:aws:s3:::{name}"), format!("arn:aws:s3:::{name}/*")]},
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": self.role()},
        ]})
        .to_string();
        let policy = ["--policy-name", "live", "--policy-document", &mine];
        self.admin(&[&["iam", "put-user-policy"], &user[..], &policy].concat());
        let made = self.admin(&[&["iam", "create-access-key"], &user[..]].concat());
        self.keys = Keys::of(&made["AccessKey"]);
        let seed = self.home.path().join("seed");
        let made = self.admin(&[
            "iam",
            "create-virtual-mfa-device",
            "--virtual-mfa-device-name",
            &name,
            "--outfile",
            seed.to_str().unwrap(),
            "--bootstrap-method",
            "Base32StringSeed",
        ]);
        self.serial = made["VirtualMFADevice"]["SerialNumber"]
            .as_str()
            .unwrap()
            .to_owned();
        let seed = std::fs::read_to_string(seed).unwrap();
        // The rehearsal's seeds are not base32, and its codes are not checked.
        self.seed = base32(seed.trim()).unwrap_or_else(|| seed.into_bytes());
        let (first, second) = (self.code(), self.code());
        let codes = [
            "--authentication-code1",
            &first,
            "--authentication-code2",
            &second,
        ];
        let serial = ["--serial-number", &self.serial];
        self.admin(&[&["iam", "enable-mfa-device"], &user[..], &serial, &codes].concat());
        let trust = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": self.user()}, "Action": "sts:AssumeRole",
            "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
        }]});
        // The rehearsal's sessions have no MFA.
        let trust = match self.account {
            Account::Profile(_) => trust,
            Account::Rehearsal(_) => json!({"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": {"AWS": self.user()}, "Action": "sts:AssumeRole",
            }]}),
        }
        .to_string();
        let document = ["--assume-role-policy-document", &*trust];
        self.settled("the role", || {
            let args = [&["iam", "create-role"], &role[..], &document].concat();
            Self::output(self.cli(), &args)
        });
        self.admin(&[&["iam", "put-role-policy"], &role[..], &policy].concat());
        let place = format!("LocationConstraint={}", self.region);
        let elsewhere = ["--create-bucket-configuration", &place];
        let place: &[&str] = match self.region.as_str() {
            "us-east-1" => &[],
            _ => &elsewhere,
        };
        self.admin(&[&["s3api", "create-bucket"], &bucket[..], place].concat());
        let object = self.home.path().join("object");
        std::fs::write(&object, "content").unwrap();
        let put = ["--key", "f", "--body", object.to_str().unwrap()];
        self.settled("the keys", || {
            self.with(
                &self.keys,
                &[&["s3api", "put-object"], &bucket[..], &put].concat(),
            )
        });
    }

    /// A code that was not used yet: waits for the next step if need be.
    pub fn code(&mut self) -> String {
        let mut step = 0;
        let is_checked = matches!(self.account, Account::Profile(_));
        holds_within(Duration::from_secs(90), || {
            step = totp::step_at(SystemTime::now());
            step > self.spent || !is_checked
        });
        self.spent = step;
        totp::code(&self.seed, step, totp::DIGITS)
    }

    /// Denies this user and this role what the condition says; the administrator keeps everything.
    pub fn deny(&self, condition: &Value) {
        let mut condition = condition.clone();
        condition["ArnEquals"] = json!({"aws:PrincipalArn": [self.user(), self.role()]});
        let policy = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Condition": condition,
            "Resource": [format!("arn:aws:s3:::{}", self.name),
                         format!("arn:aws:s3:::{}/*", self.name)],
        }]})
        .to_string();
        self.admin(&[
            "s3api",
            "put-bucket-policy",
            "--bucket",
            &self.name,
            "--policy",
            &policy,
        ]);
    }

    pub fn session_token(&mut self, seconds: &str) -> Result<Value, String> {
        let code = self.code();
        self.session_token_for(&code, seconds)
    }

    pub fn session_token_for(&self, code: &str, seconds: &str) -> Result<Value, String> {
        let args = ["sts", "get-session-token", "--duration-seconds", seconds];
        let mfa = ["--serial-number", &self.serial, "--token-code", code];
        self.with(&self.keys, &[&args[..], &mfa].concat())
    }

    pub fn assume(&self, keys: &Keys) -> Result<Keys, String> {
        let args = ["sts", "assume-role", "--role-session-name", "live"];
        let role = self.role();
        let role = ["--role-arn", &*role];
        let granted = self.with(keys, &[&args[..], &role].concat())?;
        Ok(Keys::of(&granted["Credentials"]))
    }

    /// Reads the object, once the policy is known everywhere.
    pub fn reads(&self, keys: &Keys) -> Result<Value, String> {
        let to = self.home.path().join("read");
        let args = ["s3api", "get-object", "--key", "f", "--bucket", &self.name];
        self.with(keys, &[&args[..], &[to.to_str().unwrap()]].concat())
    }

    /// The status and the body of a request to STS or S3, word by word.
    pub fn verbatim(&self, keys: &Keys, service: &str, url: &str) -> String {
        let [id, secret, token] = &keys.0;
        let config = self.home.path().join("curl");
        let text = format!(
            "silent\nuser = \"{id}:{secret}\"\naws-sigv4 = \"aws:amz:{}:{service}\"\n\
             header = \"X-Amz-Security-Token: {token}\"\nwrite-out = \"\\nHTTP %{{http_code}}\"\n\
             url = \"{url}\"\n",
            self.region
        );
        write_private(&config, &text);
        let output = Command::new("curl").arg("-K").arg(&config).output();
        let said = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        // AWS echoes the token.
        said.replace(token.as_str(), "TOKEN")
    }

    /// The program itself.
    pub fn mount(&mut self, options: &[&str]) -> Mount {
        let process = format!("echo {}", self.code());
        let path = self.home.path().join("mnt");
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3mfa-mount"));
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path().join("run"))
            .env("AWS_ACCESS_KEY_ID", &self.keys.0[0])
            .env("AWS_SECRET_ACCESS_KEY", &self.keys.0[1]);
        if let Account::Rehearsal(server) = &self.account {
            command.env("AWS_ENDPOINT_URL", &server.endpoint);
        }
        command.args([&*self.name, path.to_str().unwrap(), "--foreground"]);
        command.args(["--region", &self.region, "--mfa-process", &process]);
        command.args(options);
        let mount = Mount::spawn(command, &path);
        mount.wait_until_mounted();
        mount
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let name = self.name.clone();
        let (user, role) = (["--user-name", &*name], ["--role-name", &*name]);
        let (serial, key) = (self.serial.clone(), self.keys.0[0].clone());
        let url = format!("s3://{name}");
        let inline = ["--policy-name", "live"];
        let device = ["--serial-number", &*serial];
        let steps: [Vec<&str>; 10] = [
            vec!["s3api", "delete-bucket-policy", "--bucket", &name],
            vec!["s3", "rb", "--force", &url],
            [&["iam", "delete-role-policy"], &role[..], &inline].concat(),
            [&["iam", "delete-role"], &role[..]].concat(),
            [&["iam", "deactivate-mfa-device"], &user[..], &device].concat(),
            [&["iam", "delete-virtual-mfa-device"], &device[..]].concat(),
            [
                &["iam", "delete-access-key"],
                &user[..],
                &["--access-key-id", &key],
            ]
            .concat(),
            [&["iam", "delete-user-policy"], &user[..], &inline].concat(),
            [&["iam", "delete-user"], &user[..]].concat(),
            vec!["sts", "get-caller-identity"],
        ];
        for args in steps {
            // Not `s3 rb`, whose output is no JSON; nothing is read from any of them.
            let output = self.cli().args(&args).output();
            let output = output.map(|output| (output.status.success(), output.stderr));
            if let Ok((false, stderr)) = output {
                let why = String::from_utf8_lossy(&stderr).trim().to_owned();
                eprintln!("NOT REMOVED: aws {}: {why}", args.join(" "));
            }
        }
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    let mut file = options.open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// RFC 4648, without padding.
fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for c in text.trim_end_matches('=').bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
            .iter()
            .position(|known| *known == c)?;
        bits = bits << 5 | u32::try_from(value).ok()?;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[test]
fn seeds_are_read() {
    // RFC 4648, section 10.
    assert_eq!(base32("MZXW6YTBOI======").unwrap(), b"foobar");
    assert!(base32("0189").is_none());
}
