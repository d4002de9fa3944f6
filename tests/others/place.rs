//! A bucket on a server, with a mount, and the AWS CLI.

use std::fs::File;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::scene::Mount;
use crate::servers::{Server, tool};

/// The stage of one test.
pub struct Place {
    home: tempfile::TempDir,
    server: &'static Server,
    pub bucket: String,
}

/// The AWS CLI with the keys of a server's user.
pub fn aws(server: &Server) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(tool("aws")).stdin(Stdio::null());
    command
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .envs([
            ("AWS_ENDPOINT_URL", &*server.endpoint),
            ("AWS_ACCESS_KEY_ID", &*server.access_key),
            ("AWS_SECRET_ACCESS_KEY", &*server.secret_key),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            // Ceph 16 knows no checksums in trailers.
            ("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"),
            ("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required"),
            ("LC_ALL", "C.UTF-8"),
            ("HOME", "/nonexistent"),
        ]);
    command
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
        std::fs::create_dir(home.path().join("run")).unwrap();
        std::fs::create_dir(home.path().join("mnt")).unwrap();
        let place = Self {
            home,
            server,
            bucket,
        };
        place.aws(&["s3api", "create-bucket", "--bucket", &place.bucket]);
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

    /// Puts an object with the CLI, with what `options` say.
    pub fn put(&self, key: &str, bytes: &[u8], options: &[&str]) {
        let file = self.beside("to-put");
        std::fs::write(&file, bytes).unwrap();
        let url = self.url(key);
        let args = [
            &[
                "s3",
                "cp",
                "--only-show-errors",
                file.to_str().unwrap(),
                &*url,
            ],
            options,
        ]
        .concat();
        self.aws(&args);
    }

    /// Gets an object's bytes with the CLI.
    pub fn get(&self, key: &str) -> Vec<u8> {
        self.get_all(key).0
    }

    /// An object's bytes, and what the CLI says of them.
    pub fn get_all(&self, key: &str) -> (Vec<u8>, serde_json::Value) {
        let file = self.beside("gotten");
        let path = file.to_str().unwrap();
        // Not `s3 cp`, which stumbles over Ceph's answer for an empty object.
        let told = self.aws(&[
            "s3api",
            "get-object",
            "--bucket",
            &self.bucket,
            "--key",
            key,
            path,
        ]);
        (
            std::fs::read(&file).unwrap(),
            serde_json::from_str(&told).unwrap(),
        )
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        let told = self.aws(&["s3api", "list-objects-v2", "--bucket", &self.bucket]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
        let contents = told["Contents"].as_array().cloned().unwrap_or_default();
        let mut keys: Vec<_> = contents
            .iter()
            .map(|object| object["Key"].as_str().unwrap().to_owned())
            .collect();
        keys.sort();
        keys
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

    fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
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
