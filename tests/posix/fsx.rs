//! `fsx`: a file is read, written, mapped, cut, extended, synced and closed at random, and at
//! each read compared with what it must contain. At the end the object is the file.
//!
//! `S3MFA_FSX_SEED=17 S3MFA_FSX_OPERATIONS=1000000 cargo test --test posix fsx` looks for more.

use std::process::Command;
use std::time::Duration;

use crate::scene::Scene;
use crate::tools::{Tool, run_within};

const FSX: Tool = Tool {
    name: "fsx",
    version: "0.3.2",
};

/// With the number of operations that are asked for by default, some minutes are plenty.
const MOST: Duration = Duration::from_secs(1800);

/// What is done to the file.
struct Exercise {
    name: &'static str,
    operations: u64,
    seed: u64,
    /// The largest size of the file, and of a read or write, in bytes.
    file: u64,
    operation: u64,
    /// How often something is done through a mapping, compared with 10 for reads and writes.
    mapped: u32,
    /// How often the file is stored: synced, or closed and opened again.
    stored: f64,
    /// More options of the mount.
    options: &'static [&'static str],
}

impl Exercise {
    fn config(&self) -> String {
        let Self {
            file,
            operation,
            mapped,
            stored,
            ..
        } = self;
        format!(
            "flen = {file}
nomsyncafterwrite = false

[opsize]
max = {operation}
min = 0
align = 1

[weights]
read = 10
write = 10
truncate = 10
mapread = {mapped}
mapwrite = {mapped}
invalidate = {mapped}
posix_fallocate = 5
punch_hole = 5
copy_file_range = 5
sendfile = 5
posix_fadvise = 2
fsync = {stored:?}
fdatasync = {stored:?}
close_open = {stored:?}
"
        )
    }

    fn run(&self) {
        let Some(program) = FSX.find(self.name) else {
            return;
        };
        let number = |name: &str, default: u64| {
            std::env::var(name).map_or(default, |value| value.parse().unwrap())
        };
        let seed = number("S3MFA_FSX_SEED", self.seed);
        let operations = number("S3MFA_FSX_OPERATIONS", self.operations);
        let scene = Scene::new();
        let mut mount = scene.mount(self.options);
        let config = scene.home().join("fsx.toml");
        std::fs::write(&config, self.config()).unwrap();
        println!("fsx: {operations} operations, seed {seed}, {}", self.name);
        let mut command = Command::new(program);
        command
            .arg("-f")
            .arg(&config)
            .arg("-P")
            .arg(scene.home())
            .args(["-N", &operations.to_string(), "-S", &seed.to_string()])
            .arg(mount.file("file"));
        let outcome = run_within(MOST, &mut command, &scene.home().join("fsx.log"));
        assert!(
            outcome.status.success(),
            "seed {seed}:\n{}",
            tail(&outcome.text)
        );
        let puts = scene.sandbox.counts().total();
        println!(
            "fsx: done in {:.1} s, with {puts} requests",
            outcome.took.as_secs_f32()
        );
        let file = std::fs::read(mount.file("file")).unwrap();
        mount.signal(libc::SIGTERM);
        assert!(mount.wait().success(), "{}", mount.log());
        let stored = scene.bucket.get("file").unwrap();
        assert!(stored == file, "seed {seed}: the object is not the file");
        assert_eq!(scene.bucket.keys(), ["file"], "nothing is left beside it");
        assert!(scene.bucket.uploads().is_empty());
        assert_spool_is_empty(&scene);
    }
}

/// fsx tells the last thousand operations.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(120)..].join("\n")
}

fn assert_spool_is_empty(scene: &Scene) {
    let spool = scene.home().join(".local/state/s3mfa-mount/spool");
    let mut directories = vec![spool];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let is_data = path
                .extension()
                .is_some_and(|extension| extension == "data");
            assert!(!is_data, "{} stays behind", path.display());
            if path.is_dir() {
                directories.push(path);
            }
        }
    }
}

#[test]
fn fsx_with_mappings() {
    Exercise {
        name: "fsx with mappings",
        operations: 100_000,
        seed: 20_261_122,
        file: 256 << 10,
        operation: 64 << 10,
        mapped: 10,
        stored: 0.4,
        options: &[],
    }
    .run();
}

#[test]
fn fsx_without_mappings() {
    Exercise {
        name: "fsx without mappings",
        operations: 100_000,
        seed: 20_261_123,
        file: 256 << 10,
        operation: 64 << 10,
        mapped: 0,
        stored: 0.4,
        options: &[],
    }
    .run();
}

/// Files over 16 MiB are stored in parts, of which S3 copies those that were not changed.
#[test]
fn fsx_in_parts() {
    Exercise {
        name: "fsx in parts",
        operations: 1_500,
        seed: 20_261_124,
        file: 48 << 20,
        operation: 2 << 20,
        mapped: 5,
        stored: 2.0,
        options: &["--part-size", "5MiB"],
    }
    .run();
}
