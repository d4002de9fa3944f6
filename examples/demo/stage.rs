//! The small AWS, alice's home directory, and the mount as a child process.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use s3mfa_sandbox::{Bucket, Device, Sandbox, policies};

use super::Outcome;

/// How long the mount may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

const README: &str = "\
Well done: this file comes from a bucket that gives nothing without MFA.

Try, here in this directory:

    ls -lR .                          a small tree of files
    sha256sum photos/* backup.bin     they are read at full speed
    tail -c 100 backup.bin            the end of a file, without the rest of it

Then wait until the session has ended (the last line of the demo's terminal
tells), and read again. Your command waits, you are asked for a code, and your
command goes on.

Or type a wrong code, or the same code twice. Or let nobody answer: after 90
seconds your command gets the error \"Key has expired\", and nothing hangs.
";

/// The sandbox, and the directory that the mount lives in.
pub struct Stage {
    pub sandbox: Sandbox,
    pub device: Device,
    pub bucket: Bucket,
    pub mountpoint: PathBuf,
    home: tempfile::TempDir,
}

impl Stage {
    /// Starts the sandbox and writes alice's home directory.
    pub fn set(mountpoint: Option<PathBuf>) -> Outcome<Self> {
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
        let aws = home.path().join(".aws");
        fs::create_dir(&aws)?;
        let config = format!(
            "[default]\nregion = {}\nmfa_serial = {}\n",
            sandbox.region(),
            device.serial()
        );
        fs::write(aws.join("config"), config)?;
        let keys = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            alice.access_key_id(),
            alice.secret_access_key()
        );
        fs::write(aws.join("credentials"), keys)?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(home.path().join("run"))?;
        let mountpoint = match mountpoint {
            Some(named) => std::path::absolute(named)?,
            None => {
                let own = home.path().join("mnt");
                fs::create_dir(&own)?;
                own
            }
        };
        let stage = Self {
            sandbox,
            device,
            bucket,
            mountpoint,
            home,
        };
        stage.write_script()?;
        Ok(stage)
    }

    /// The program for people in other terminals, who must look for the mount where it is.
    fn write_script(&self) -> Outcome {
        let bin = self.path("bin");
        fs::create_dir(&bin)?;
        symlink(std::env::current_exe()?, bin.join("s3mfa-mount"))?;
        let script = "#!/bin/sh\nhere=$(dirname \"$0\")\n\
                      HOME=$here XDG_RUNTIME_DIR=$here/run exec \"$here/bin/s3mfa-mount\" \"$@\"\n";
        fs::write(self.script(), script)?;
        fs::set_permissions(self.script(), fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    pub fn script(&self) -> PathBuf {
        self.path("s3mfa-mount")
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
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("AWS_ENDPOINT_URL_S3", self.sandbox.endpoint())
            .env("AWS_ENDPOINT_URL_STS", self.sandbox.endpoint());
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
}

/// Puts a few files into the bucket.
fn fill(bucket: &Bucket) {
    bucket.put("README.txt", README);
    bucket.put("photos/lake.raw", noise(1, 3 << 20));
    bucket.put("backup.bin", noise(2, 20 << 20));
    for year in 2023..2026 {
        for quarter in 1..=4 {
            let table = format!("year,quarter,sum\n{year},{quarter},{}\n", year * quarter);
            bucket.put(&format!("reports/{year}/q{quarter}.csv"), table);
        }
    }
}

/// Bytes that differ everywhere, so that no wrong part can pass for the right one.
fn noise(seed: u64, length: usize) -> Vec<u8> {
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

/// The mount in the foreground; dropping it takes it away.
pub struct Mount<'a> {
    stage: &'a Stage,
    child: Child,
    /// The device that the directory is on while nothing is mounted there.
    below: Option<u64>,
}

impl<'a> Mount<'a> {
    /// Starts it. Its log goes to a file: between the lines of a prompt it would only disturb.
    pub fn start(stage: &'a Stage, options: &[&str], input: Stdio) -> Outcome<Self> {
        let log = fs::File::create(stage.path("log"))?;
        let below = device_of(&stage.mountpoint);
        let child = stage
            .program()?
            .arg("demo")
            .arg(&stage.mountpoint)
            .arg("--foreground")
            .args(options)
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self {
            stage,
            child,
            below,
        })
    }

    /// Its process.
    pub fn process(&self) -> Option<Pid> {
        Some(Pid::from_raw(i32::try_from(self.child.id()).ok()?))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Outcome<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Whether something is mounted now.
    pub fn is_mounted(&self) -> bool {
        device_of(&self.stage.mountpoint) != self.below
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.stage.path("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(20)..];
        tail.iter().map(|line| format!("{line}\n")).collect()
    }

    /// What it said last to the person who started it: why it ended, and what to do.
    pub fn complaint(&self) -> String {
        let log = self.log();
        match log.rfind("s3mfa-mount: ") {
            Some(at) => log[at..].to_owned(),
            None => log,
        }
    }

    /// Ends it as Ctrl-C does, and waits until it is gone.
    pub fn end(&mut self) -> Outcome {
        if let Some(process) = self
            .process()
            .filter(|_| self.child.try_wait().is_ok_and(|s| s.is_none()))
        {
            kill(process, Signal::SIGTERM)?;
        }
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                self.child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.is_mounted() {
            // It was killed, and what is left is a dead mount.
            let place = self.stage.mountpoint.to_string_lossy();
            self.stage.control(&["unmount", &place])?;
        }
        Ok(())
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn device_of(path: &Path) -> Option<u64> {
    Some(fs::metadata(path).ok()?.dev())
}
