//! A bucket on a server, with a mount, and the AWS CLI.

use std::fs::File;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::hand::Hand;
use crate::scene::Mount;
use crate::servers::{Server, tool};

/// The stage of one test.
pub struct Place {
    home: tempfile::TempDir,
    server: &'static Server,
    hand: Mutex<Hand>,
    pub bucket: String,
}

/// The AWS CLI with the keys of a server's user.
pub fn aws(server: &Server) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(tool("aws")).stdin(Stdio::null());
    command.env_clear().envs(environment(server));
    command
}

/// What the CLI and its library are told.
fn environment(server: &Server) -> Vec<(&'static str, String)> {
    vec![
        ("PATH", std::env::var("PATH").unwrap()),
        ("AWS_ENDPOINT_URL", server.endpoint.clone()),
        ("AWS_ACCESS_KEY_ID", server.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", server.secret_key.clone()),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        // Ceph 16 knows no checksums in trailers.
        (
            "AWS_REQUEST_CHECKSUM_CALCULATION",
            "when_required".to_owned(),
        ),
        (
            "AWS_RESPONSE_CHECKSUM_VALIDATION",
            "when_required".to_owned(),
        ),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("HOME", "/nonexistent".to_owned()),
    ]
}

/// close(2) with its errno, which dropping a file does not give; 0 if all is well.
pub fn close(file: File) -> i32 {
    let closed = nix::unistd::close(file.into_raw_fd());
    closed.map_or_else(|error| error as i32, |()| 0)
}

impl Place {
    /// A new bucket.
    pub fn on(server: &'static Server) -> Self {
        static BUCKETS: AtomicU32 = AtomicU32::new(0);
        let bucket = format!("docs-{}", BUCKETS.fetch_add(1, Ordering::Relaxed));
        let home = tempfile::Builder::new()
            .prefix("s3mfa-others")
            .tempdir()
            .unwrap();
        for name in ["run", "mnt", "user"] {
            std::fs::create_dir(home.path().join(name)).unwrap();
        }
        let mut python = Command::new(tool("python"));
        python.env_clear().envs(environment(server));
        let place = Self {
            home,
            server,
            hand: Mutex::new(Hand::new(python)),
            bucket,
        };
        place.order("make", json!([place.bucket]));
        place
    }

    /// A path outside of the mount.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs the CLI, which must succeed. Returns what it prints.
    pub fn aws(&self, args: &[&str]) -> String {
        let output = aws(self.server).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn order(&self, name: &str, arguments: Value) -> Value {
        let done = self.hand.lock().unwrap().order(name, arguments);
        done.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Puts an object with the CLI's library.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.put_with(key, bytes, &json!({}));
    }

    /// The same with what `extra` says: the arguments of PutObject by their names.
    pub fn put_with(&self, key: &str, bytes: &[u8], extra: &Value) {
        let file = self.beside("to-put");
        std::fs::write(&file, bytes).unwrap();
        self.order("put", json!([self.bucket, key, file, extra]));
    }

    /// Puts an empty object whose name may end with a slash.
    pub fn mark(&self, key: &str) {
        self.order("mark", json!([self.bucket, key]));
    }

    /// Deletes an object.
    pub fn remove(&self, key: &str) {
        self.order("remove", json!([self.bucket, key]));
    }

    /// Gets an object's bytes.
    pub fn get(&self, key: &str) -> Vec<u8> {
        self.get_all(key).0
    }

    /// An object's bytes, and what GetObject says of them.
    pub fn get_all(&self, key: &str) -> (Vec<u8>, Value) {
        let file = self.beside("gotten");
        let told = self.order("get", json!([self.bucket, key, file]));
        (std::fs::read(&file).unwrap(), told)
    }

    /// The sizes of these objects; `None` for what is not there.
    pub fn sizes(&self, keys: &[String]) -> Vec<Option<u64>> {
        let told = self.order("sizes", json!([self.bucket, keys]));
        told.as_array().unwrap().iter().map(Value::as_u64).collect()
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        let told = self.order("keys", json!([self.bucket, self.server.writes_plus]));
        serde_json::from_value(told).unwrap()
    }

    /// The keys of uploads that nobody has completed.
    pub fn uploads(&self) -> Vec<String> {
        serde_json::from_value(self.order("uploads", json!([self.bucket]))).unwrap()
    }

    /// How many parts the uploads of a key have that nobody has completed.
    pub fn parts(&self, key: &str) -> usize {
        serde_json::from_value(self.order("parts", json!([self.bucket, key]))).unwrap()
    }

    /// Runs a shell script on a mount, which must succeed. Returns what it prints.
    pub fn shell(&self, mount: &Mount, script: &str) -> String {
        let output = Command::new("timeout")
            .args(["--kill-after=10", "240", "bash", "-euo", "pipefail", "-c"])
            .arg(format!("exec 2>&1\n{script}"))
            .current_dir(mount.path())
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.home.path().join("user"))
            .envs([("LC_ALL", "C.UTF-8"), ("TZ", "UTC")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}\n{words}\n{output:?}");
        words
    }

    /// The ARN of the user whose keys are used.
    pub fn user_arn(&self) -> &'static str {
        self.server.user
    }

    /// Their access key, and its secret.
    pub fn keys_of_the_user(&self) -> (&str, &str) {
        (&self.server.access_key, &self.server.secret_key)
    }

    /// Writes the AWS configuration that mounts read.
    pub fn configure(&self, config: &str) {
        std::fs::create_dir(self.home.path().join(".aws")).unwrap();
        std::fs::write(self.home.path().join(".aws/config"), config).unwrap();
    }

    /// Runs a command of ours, which must succeed. Returns what it prints.
    pub fn control(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3mfa-mount"));
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path().join("run"));
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Mounts the bucket with the user's keys as they are.
    pub fn mount(&self) -> Mount {
        self.mount_with(&["--credentials", "plain"])
    }

    pub fn mount_with(&self, options: &[&str]) -> Mount {
        let mount = Mount::spawn(self.command(options), &self.mountpoint());
        mount.wait_until_mounted();
        mount
    }

    fn mountpoint(&self) -> PathBuf {
        self.home.path().join("mnt")
    }

    fn command(&self, options: &[&str]) -> Command {
        let home: &Path = self.home.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3mfa-mount"));
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap());
        command
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .envs([
                ("AWS_ACCESS_KEY_ID", &*self.server.access_key),
                ("AWS_SECRET_ACCESS_KEY", &*self.server.secret_key),
            ]);
        command.args([
            &*self.bucket,
            self.mountpoint().to_str().unwrap(),
            "--foreground",
        ]);
        command.args(["--endpoint-url", &self.server.endpoint]);
        command.args(["--sts-endpoint-url", &self.server.endpoint]);
        command.args(["--region", "us-east-1", "--force-path-style"]);
        command.args(options);
        command
    }
}
