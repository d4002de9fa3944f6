//! One scenario: who wants in where, what is asked, and how it ends.

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use s3mfa_sandbox::{Device, Kind, Role, policies};
use serde_json::Value;

use crate::scene::{Mount, PATIENCE, Scene, holds_within};

/// What a person says at a prompt.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// A code that is good.
    Code,
    /// One of the device that has a number.
    HardwareCode,
    /// These words.
    Words(&'static str),
}

/// How it ends.
#[derive(Clone, Debug)]
pub enum End {
    /// Mounted, and a file is read, standing on this rung.
    Mounted(&'static str),
    /// Mounted, but the file is denied.
    Denied(&'static str),
    /// Not mounted: the exit code, and the sentence.
    Refused(i32, &'static str),
}

/// A row of the table. `{serial}`, `{role}`, `{far}`, `{key}`, `{secret}`, `{account}` and `{home}` in its
/// texts stand for what the sandbox has.
pub struct Case {
    policy: Option<Value>,
    config: String,
    options: Vec<String>,
    environment: Vec<(&'static str, String)>,
    answers: Vec<Answer>,
    setup: Box<dyn Fn(&Stage)>,
    bucket: &'static str,
    key: &'static str,
}

/// Where a case is played: `docs` of this account, `theirs` of another one, alice with her device
/// and two roles.
pub struct Stage {
    pub scene: Scene,
    /// A role that alice may assume with MFA only.
    pub role: Role,
    hardware: OnceLock<Device>,
    /// A role that trusts the first one.
    pub far: Role,
}

impl Stage {
    pub fn new() -> Self {
        Self::on(Scene::new())
    }

    /// The same on a stage of another kind.
    pub fn on(scene: Scene) -> Self {
        let sandbox = &scene.sandbox;
        let alice = scene.alice.arn().to_owned();
        let role = sandbox
            .create_role("reader", policies::trust_with_mfa(&alice))
            .unwrap();
        let far = sandbox
            .create_role("far", policies::trust(role.arn()))
            .unwrap();
        far.set_max_session(Duration::from_secs(43_200));
        let theirs = sandbox.create_bucket_of("theirs", "999988887777");
        for bucket in [&scene.bucket, &theirs] {
            bucket.put("f", "content");
            bucket.put("open/f", "content");
            bucket.put("secret/f", "content");
        }
        Self {
            scene,
            role,
            hardware: OnceLock::new(),
            far,
        }
    }

    /// Fills in what the sandbox has.
    pub fn fill(&self, text: &str) -> String {
        let scene = &self.scene;
        let text = match text.contains("{hardware}") {
            true => text.replace("{hardware}", self.hardware().serial()),
            false => text.to_owned(),
        };
        text.replace("{serial}", scene.device.serial())
            .replace("{role}", self.role.arn())
            .replace("{far}", self.far.arn())
            .replace("{key}", scene.alice.access_key_id())
            .replace("{secret}", scene.alice.secret_access_key())
            .replace("{account}", scene.sandbox.account())
            .replace("{start}", scene.sandbox.sso().start_url())
            .replace("{home}", scene.home().to_str().unwrap())
    }

    /// Mounts `docs` with these options and variables, and waits until it serves.
    pub fn mount_with(&self, options: &[&str], variables: &[(&str, &str)]) -> Mount {
        let path = self.scene.mountpoint("mnt");
        let mut command = self.scene.command();
        command.args(["docs", path.to_str().unwrap(), "--foreground"]);
        command.args(options).envs(variables.iter().copied());
        let mount = Mount::spawn(command, &path);
        mount.wait_until_mounted();
        mount
    }

    /// What the program last got from STS: whose keys, and for how many seconds.
    pub fn last_session(&self) -> (String, u64) {
        let (arn, lasts) = self.scene.sandbox.sessions().latest().unwrap();
        (arn, lasts.as_secs())
    }

    /// The keys of a session with MFA, as another program would hold them.
    pub fn session_keys(&self) -> Value {
        let process = format!("echo {}", self.scene.device.unspent_code());
        let serial = self.scene.device.serial();
        let printed = self.scene.control(&[
            "credentials",
            "--mfa-process",
            &process,
            "--mfa-serial",
            serial,
            "--credentials",
            "session-token",
        ]);
        assert_eq!(printed.code, 0, "{printed:?}");
        serde_json::from_str(&printed.out).unwrap()
    }

    /// Another device of alice, a fob with a number. She has it from the first mention on.
    pub fn hardware(&self) -> &Device {
        let (sandbox, alice) = (&self.scene.sandbox, &self.scene.alice);
        self.hardware
            .get_or_init(|| sandbox.create_hardware_device(alice))
    }

    /// Replaces the AWS configuration. The keys of alice are those of `[default]`.
    pub fn configure(&self, config: &str) {
        let path = self.scene.home().join(".aws/config");
        fs::write(path, self.fill(config)).unwrap();
    }
}

/// Alice's keys, and no word of a device.
pub const BARE: &str = "[default]\nregion = us-east-1\n";

/// Alice's keys with her device.
pub const WITH_DEVICE: &str = "[default]\nregion = us-east-1\nmfa_serial = {serial}\n";

/// The role, as the AWS CLI has it.
pub const ROLE: &str = "[default]\nregion = us-east-1\n[profile r]\nregion = us-east-1\n\
                        role_arn = {role}\nsource_profile = default\n";

/// The role with the device.
pub const ROLE_WITH_DEVICE: &str = "[default]\nregion = us-east-1\n[profile r]\n\
                                    region = us-east-1\nrole_arn = {role}\n\
                                    source_profile = default\nmfa_serial = {serial}\n";

impl Case {
    /// Under this policy of the bucket, with this configuration.
    pub fn new(policy: impl Into<Option<Value>>, config: &str) -> Self {
        Self {
            policy: policy.into(),
            config: config.to_owned(),
            options: Vec::new(),
            environment: Vec::new(),
            answers: Vec::new(),
            setup: Box::new(|_| {}),
            bucket: "docs",
            key: "f",
        }
    }

    pub fn options(mut self, options: &[&str]) -> Self {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
        self
    }

    /// A variable of the environment, which has the same names filled in.
    pub fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// What the prompts are answered with, in this order; there must be as many.
    pub fn answers(mut self, answers: &[Answer]) -> Self {
        self.answers = answers.to_vec();
        self
    }

    /// What else is different.
    pub fn with(mut self, setup: impl Fn(&Stage) + 'static) -> Self {
        self.setup = Box::new(setup);
        self
    }

    /// Of this bucket, rather than `docs`.
    pub fn bucket(mut self, bucket: &'static str) -> Self {
        self.bucket = bucket;
        self
    }

    /// This key is read, rather than `f`.
    pub fn reads(mut self, key: &'static str) -> Self {
        self.key = key;
        self
    }

    /// Plays it.
    pub fn ends(self, end: End) {
        let stage = Stage::new();
        let scene = &stage.scene;
        match &self.policy {
            Some(policy) => {
                let bucket = scene.sandbox.create_bucket(self.bucket);
                bucket.set_policy(policy).unwrap();
            }
            None => scene.bucket.clear_policy(),
        }
        stage.configure(&self.config);
        (self.setup)(&stage);
        let answering = std::thread::spawn({
            let (pinentry, device) = (scene.pinentry.clone(), scene.device.clone());
            let hardware = stage.hardware.get().cloned();
            let answers = self.answers.clone();
            move || {
                for (number, answer) in (1..).zip(answers) {
                    // A case that ends early says so itself.
                    if !holds_within(PATIENCE, || pinentry.asked() >= number) {
                        return;
                    }
                    let words = match answer {
                        Answer::Code => device.unspent_code(),
                        Answer::HardwareCode => hardware.as_ref().unwrap().unspent_code(),
                        Answer::Words(words) => words.to_owned(),
                    };
                    pinentry.answer(&words);
                }
            }
        });
        let options: Vec<String> = self.options.iter().map(|o| stage.fill(o)).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let path = scene.mountpoint("mnt");
        let mut command = scene.command();
        command.args([self.bucket, path.to_str().unwrap(), "--foreground"]);
        command.args(options);
        for (name, value) in &self.environment {
            command.env(name, stage.fill(value));
        }
        let mut mount = Mount::spawn(command, &path);
        let log = || mount.log();
        holds_within(PATIENCE, || mount.has_ended() || mount.is_served());
        match end {
            End::Mounted(rung) => {
                assert!(!mount.has_ended(), "not mounted:\n{}", log());
                let read = fs::read_to_string(mount.file(self.key));
                assert_eq!(read.unwrap(), "content", "{}", log());
                assert_eq!(mount.status(scene)["credentials"], rung, "{}", log());
            }
            End::Denied(words) => {
                assert!(!mount.has_ended(), "not mounted:\n{}", log());
                let read = fs::read_to_string(mount.file(self.key));
                let error = read.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{}", log());
                let words = stage.fill(words);
                assert!(log().contains(&words), "{words}:\n{}", log());
            }
            End::Refused(code, sentence) => {
                assert!(mount.has_ended(), "mounted:\n{}", log());
                let sentence = stage.fill(sentence);
                assert!(
                    mount.log().contains(&sentence),
                    "{sentence}:\n{}",
                    mount.log()
                );
                assert_eq!(mount.wait().code(), Some(code), "{}", mount.log());
            }
        }
        // Nobody needs a permission to see all buckets, to mount one.
        assert_eq!(scene.sandbox.counts().of(Kind::ListBuckets), 0);
        let asked = scene.pinentry.asked();
        assert_eq!(
            asked,
            self.answers.len(),
            "prompts:\n{}",
            scene.pinentry.log()
        );
        drop(answering);
    }
}
