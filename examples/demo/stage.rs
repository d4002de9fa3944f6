//! The small AWS, alice's home directory, and the mount as a child process.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3mfa_sandbox::{Bucket, Device, Sandbox, policies};

use super::Outcome;

const README: &str = "\
Well done: this file comes from a bucket that gives nothing without MFA.

Try, here in this directory:

    ls -lR .                          a small tree of files
    sha256sum photos/* backup.bin     a few megabytes
    tail -c 100 backup.bin            the end of a file, without the rest of it

Then wait until the session has ended (the last line of the demo's terminal
tells), and read again. Your command waits, you are asked for a code, and your
command goes on.

Or type a wrong code, or the same code twice. Or let nobody answer: after 90
seconds your command gets the error \"Key has expired\", and nothing hangs.
";

/// For other terminals: the program, told where the demo's mount listens.
const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$0")
HOME=$here XDG_RUNTIME_DIR=$here/run exec "$here/bin/s3mfa-mount" "$@"
"#;

/// The sandbox, and the directory that the mount lives in.
pub struct Stage {
    pub sandbox: Sandbox,
    pub device: Device,
    pub bucket: Bucket,
    pub mountpoint: PathBuf,
    /// The device that the directory is on while nothing is mounted there.
    below: Option<u64>,
    home: tempfile::TempDir,
}

impl Stage {
    /// Starts the sandbox and writes alice's home directory.
    pub fn set(place: Option<PathBuf>) -> Outcome<Self> {
        let sandbox = Sandbox::start()?;
        let alice = sandbox.create_user("alice");
        let device = sandbox.create_device(&alice);
        let bucket = sandbox.create_bucket("demo");
        fill(&bucket);
        bucket.set_policy(policies::require_mfa_null_age("demo"))?;

        let home = tempfile::Builder::new()
            .prefix("s3mfa-demo-")
            .rand_bytes(4)
            .tempdir()?;
        let path = |name| home.path().join(name);
        for name in [".aws", "bin", "mnt", "run"] {
            // Sockets must be where nobody else can go.
            fs::DirBuilder::new().mode(0o700).create(path(name))?;
        }
        let region = sandbox.region();
        let config = format!(
            "[default]\nregion = {region}\nmfa_serial = {}\n",
            device.serial()
        );
        fs::write(path(".aws/config"), config)?;
        let keys = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            alice.access_key_id(),
            alice.secret_access_key()
        );
        fs::write(path(".aws/credentials"), keys)?;
        symlink(std::env::current_exe()?, path("bin/s3mfa-mount"))?;
        fs::write(path("s3mfa-mount"), SCRIPT)?;
        fs::set_permissions(path("s3mfa-mount"), fs::Permissions::from_mode(0o700))?;

        let mountpoint = std::path::absolute(place.unwrap_or_else(|| path("mnt")))?;
        let mut stage = Self {
            sandbox,
            device,
            bucket,
            mountpoint,
            below: None,
            home,
        };
        stage.below = stage.device_there();
        Ok(stage)
    }

    /// A path in the temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The program, in an environment where it finds the sandbox and nothing of the user's.
    fn program(&self) -> Outcome<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg0("s3mfa-mount").env_clear();
        for kept in ["PATH", "TERM", "TZ"] {
            command.envs(std::env::var_os(kept).map(|value| (kept, value)));
        }
        command
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.path("run"));
        for service in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"] {
            command.env(service, self.sandbox.endpoint());
        }
        Ok(command)
    }

    /// Runs a command of the program to its end, and returns what it printed.
    pub fn control(&self, args: &[&str]) -> Outcome<String> {
        let output = self.program()?.args(args).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `status --json` tells of the session; `None` while nothing is mounted.
    pub fn session(&self) -> Option<serde_json::Value> {
        let status = self.control(&["status", "--json"]).ok()?;
        let status: serde_json::Value = serde_json::from_str(&status).ok()?;
        status["mounts"][0].get("session").cloned()
    }

    /// Whether something is mounted now, dead or alive.
    pub fn is_mounted(&self) -> bool {
        self.device_there() != self.below
    }

    fn device_there(&self) -> Option<u64> {
        Some(fs::metadata(&self.mountpoint).ok()?.dev())
    }
}

/// Puts a few files into the bucket.
fn fill(bucket: &Bucket) {
    // Different everywhere (Knuth's multiplicative hash), so that no wrong part looks right.
    let noise = |length: u64| -> Vec<u8> {
        (0..length)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    };
    bucket.put("README.txt", README);
    bucket.put("photos/lake.raw", noise(3 << 20));
    bucket.put("backup.bin", noise(20 << 20));
    for (year, quarter) in (2023..2026).flat_map(|year| (1..=4).map(move |q| (year, q))) {
        let table = format!("year,quarter,sum\n{year},{quarter},{}\n", year * quarter);
        bucket.put(&format!("reports/{year}/q{quarter}.csv"), table);
    }
}

/// The mount in the foreground; dropping it takes it away.
pub struct Mount<'a> {
    stage: &'a Stage,
    child: Child,
}

impl<'a> Mount<'a> {
    /// Starts it. Its log goes to a file: on the terminal it would tear the prompt.
    pub fn start(stage: &'a Stage, options: &[&str], input: Stdio) -> Outcome<Self> {
        let log = fs::File::create(stage.path("log"))?;
        let mut program = stage.program()?;
        program
            .arg("demo")
            .arg(&stage.mountpoint)
            .arg("--foreground")
            .args(options);
        // In a group of its own, Ctrl-C reaches the demo alone, which then ends the mount. Its
        // prompts work there too: they do not need the terminal's foreground.
        program.process_group(0);
        let child = program
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self { stage, child })
    }

    /// Its process.
    pub fn process(&self) -> Outcome<Pid> {
        Ok(Pid::from_raw(self.child.id().try_into()?))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What it said last: why it ended, and what to do.
    pub fn complaint(&self) -> String {
        let log = self.log();
        let start = log.rfind("s3mfa-mount: ").unwrap_or_default();
        log[start..].to_owned()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.stage.path("log")).unwrap_or_default();
        let lines: Vec<_> = log.split_inclusive('\n').collect();
        lines[lines.len().saturating_sub(20)..].concat()
    }

    /// Ends it as Ctrl-C would, and waits until it is gone.
    pub fn end(&mut self) -> Outcome {
        if self.ended()?.is_none() {
            kill(self.process()?, Signal::SIGTERM)?;
            self.child.wait()?;
        }
        if self.stage.is_mounted() {
            // The mount was killed, and left a dead one behind.
            self.stage
                .control(&["unmount", &self.stage.mountpoint.to_string_lossy()])?;
        }
        Ok(())
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
