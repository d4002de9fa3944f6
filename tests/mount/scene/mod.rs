//! The stage that every test plays on.

mod mount;
pub mod parts;
mod pinentry;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use mount::{Mount, detach, ends_within, is_mounted, is_zombie, kill, run, without_fuse};
pub use pinentry::Pinentry;
use s3mfa_sandbox::{Bucket, Device, Sandbox, User, policies};

/// How long anything that is waited for may take: generous, for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox with a user, a device and a bucket, and the user's home directory.
pub struct Scene {
    pub sandbox: Sandbox,
    pub alice: User,
    pub device: Device,
    pub bucket: Bucket,
    pub pinentry: Pinentry,
    home: tempfile::TempDir,
}

impl Scene {
    /// A bucket `docs` that demands MFA of everybody.
    pub fn new() -> Self {
        Self::on(Sandbox::start().unwrap())
    }

    /// The same in a sandbox of another kind.
    pub fn on(sandbox: Sandbox) -> Self {
        let alice = sandbox.create_user("alice");
        let device = sandbox.create_device(&alice);
        let bucket = sandbox.create_bucket("docs");
        bucket
            .set_policy(policies::require_mfa_null_age("docs"))
            .unwrap();
        let home = tempfile::Builder::new()
            .prefix("s3mfa-scene")
            .tempdir()
            .unwrap();
        let scene = Self {
            pinentry: Pinentry::new(home.path()),
            sandbox,
            alice,
            device,
            bucket,
            home,
        };
        scene.write_home();
        scene
    }

    fn write_home(&self) {
        let aws = self.home().join(".aws");
        std::fs::create_dir(&aws).unwrap();
        let config = format!(
            "[default]\nregion = us-east-1\nmfa_serial = {}\n",
            self.device.serial()
        );
        std::fs::write(aws.join("config"), config).unwrap();
        let credentials = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            self.alice.access_key_id(),
            self.alice.secret_access_key()
        );
        std::fs::write(aws.join("credentials"), credentials).unwrap();
        let run = self.home().join("run");
        std::fs::create_dir(&run).unwrap();
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A fresh directory to mount on.
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        let path = self.home().join(name);
        // A dead mount may be there, of which nothing can be asked.
        let _ = std::fs::create_dir(&path);
        path
    }

    /// Mounts `docs` with these options, and answers the prompt if there is one: a session that
    /// an earlier mount has left needs none.
    pub fn mount(&self, options: &[&str]) -> Mount {
        let next = self.pinentry.asked() + 1;
        let mount = self.start(options);
        wait_until("a prompt or a mount", || {
            self.pinentry.asked() >= next || mount.is_served() || mount.has_ended()
        });
        if self.pinentry.asked() >= next {
            let code = self.device.unspent_code();
            assert!(self.pinentry.answer(&code), "nobody took the code");
        }
        mount.wait_until_mounted();
        mount
    }

    /// Ends what is kept for all programs of the user, as logging out does.
    pub fn log_out(&self) {
        let _ = std::fs::remove_dir_all(self.home().join("run/s3mfa-mount"));
    }

    /// Starts a mount in the foreground; the caller answers prompts.
    pub fn start(&self, options: &[&str]) -> Mount {
        Mount::start(self, "docs", &self.mountpoint("mnt"), options)
    }

    /// What `s3mfa-mount` gets as its environment here.
    pub fn environment(&self) -> Vec<(String, String)> {
        let home = self.home().display().to_string();
        let endpoint = self.sandbox.endpoint().to_owned();
        [
            ("HOME", home.clone()),
            ("PATH", std::env::var("PATH").unwrap()),
            ("XDG_RUNTIME_DIR", format!("{home}/run")),
            ("AWS_ENDPOINT_URL_S3", endpoint.clone()),
            ("AWS_ENDPOINT_URL_STS", endpoint.clone()),
            ("AWS_ENDPOINT_URL_SSO", endpoint.clone()),
            ("AWS_ENDPOINT_URL_SSO_OIDC", endpoint),
            (
                "PINENTRY_PROGRAM",
                self.pinentry.program().display().to_string(),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// The command, ready to get its arguments.
    pub fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_s3mfa-mount"));
        command.env_clear().envs(self.environment());
        command
    }
}

/// Waits until something holds, and fails with `what` if it does not in time.
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    assert!(
        holds_within(PATIENCE, holds),
        "{what} did not happen in time"
    );
}

/// Whether something holds within a span.
pub fn holds_within(span: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if holds() {
            return true;
        }
        if start.elapsed() > span {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes that differ everywhere, from a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64 of Marsaglia, 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The errno that an operation failed with.
pub fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}
