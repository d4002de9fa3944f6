//! What is remembered from one mount to the next, none of it secret: which way opened a bucket,
//! which device a user has, how old a bucket lets a code become.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::identity::serial::Serial;

/// The file, in the state directory.
const FILE: &str = "known.json";

/// What was learned, on the local disk, or for this process only.
#[derive(Debug)]
pub(crate) struct Memory {
    directory: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    /// By access key id.
    devices: BTreeMap<String, String>,
    /// By bucket, as [`Memory::bucket`] names it.
    buckets: BTreeMap<String, Bucket>,
}

/// What is known of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bucket {
    /// The rung that opened it: a name of [`super::ladder::Rung`].
    pub(crate) rung: Option<String>,
    /// How many seconds old a code may become.
    age_limit: Option<u64>,
    /// Until when that is believed, in seconds since 1970.
    age_limit_until: Option<u64>,
}

/// How long a limit is believed. One may have been learned from a denial that had another reason,
/// and policies change; what is true is soon learned again.
const BELIEVED: Duration = Duration::from_secs(7 * 24 * 3600);

impl Bucket {
    /// How old a code may become.
    pub(crate) fn age_limit(&self, now: SystemTime) -> Option<Duration> {
        let is_believed = seconds(now) < self.age_limit_until?;
        self.age_limit
            .filter(|_| is_believed)
            .map(Duration::from_secs)
    }

    /// Believes that a code may become this old.
    pub(crate) fn learn_age_limit(&mut self, limit: Duration, now: SystemTime) {
        self.age_limit = Some(limit.as_secs());
        self.age_limit_until = Some(seconds(now + BELIEVED));
    }
}

fn seconds(moment: SystemTime) -> u64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

impl Memory {
    /// Reads what was learned; a file that cannot be read is an empty one.
    pub(crate) fn open(directory: Option<PathBuf>) -> Self {
        let known = directory.as_deref().map(read).unwrap_or_default();
        Self {
            directory,
            known: Mutex::new(known),
        }
    }

    /// The device that was used with these keys.
    pub(crate) fn device(&self, access_key_id: &str) -> Option<Serial> {
        let known = self.known.lock();
        Serial::parse(known.devices.get(access_key_id)?).ok()
    }

    /// Remembers the device of these keys.
    pub(crate) fn remember_device(&self, access_key_id: &str, serial: &Serial) {
        let serial = serial.as_str().to_owned();
        self.change(|known| {
            known.devices.insert(access_key_id.to_owned(), serial);
        });
    }

    /// Forgets it: STS does not know it.
    pub(crate) fn forget_device(&self, access_key_id: &str) {
        self.change(|known| {
            known.devices.remove(access_key_id);
        });
    }

    /// What is known of a bucket.
    pub(crate) fn bucket(&self, name: &str) -> Bucket {
        let known = self.known.lock();
        known.buckets.get(name).cloned().unwrap_or_default()
    }

    /// Learns something about a bucket.
    pub(crate) fn learn(&self, name: &str, learn: impl FnOnce(&mut Bucket)) {
        let mut bucket = self.bucket(name);
        let before = bucket.clone();
        learn(&mut bucket);
        if bucket != before {
            self.change(|known| {
                known.buckets.insert(name.to_owned(), bucket);
            });
        }
    }

    /// Other programs of the user may have learned something meanwhile, so the file is read
    /// again. What two of them write at the same moment is learned once more by one of them.
    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock();
        if let Some(directory) = &self.directory {
            *known = read(directory);
        }
        change(&mut known);
        let Some(directory) = &self.directory else {
            return;
        };
        let written = write(directory, &known);
        if let Err(error) = written {
            tracing::info!("what was learned about buckets is not remembered: {error}");
        }
    }
}

fn read(directory: &Path) -> Known {
    let text = std::fs::read_to_string(directory.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write(directory: &Path, known: &Known) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)?;
    let draft = directory.join(format!("{FILE}.{}", std::process::id()));
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&draft)?;
    serde_json::to_writer_pretty(file, known)?;
    std::fs::rename(&draft, directory.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3600);
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn what_one_learns_the_next_one_knows() {
        let home = tempfile::tempdir().unwrap();
        let place = Some(home.path().join("state"));
        let (one, two) = (Memory::open(place.clone()), Memory::open(place.clone()));
        let serial = Serial::parse("GAHT12345678").unwrap();
        one.remember_device("AKIA", &serial);
        two.learn("docs", |bucket| bucket.learn_age_limit(LIMIT, NOW));
        let next = Memory::open(place.clone());
        assert_eq!(next.device("AKIA"), Some(serial));
        assert_eq!(next.bucket("docs").age_limit(NOW), Some(LIMIT));
        assert_eq!(next.bucket("docs").age_limit(NOW + BELIEVED), None);
        next.forget_device("AKIA");
        assert_eq!(Memory::open(place).device("AKIA"), None);
    }

    #[test]
    fn a_broken_file_is_an_empty_one() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(FILE), "{").unwrap();
        let memory = Memory::open(Some(home.path().to_owned()));
        assert_eq!(memory.bucket("docs"), Bucket::default());
        memory.learn("docs", |bucket| bucket.rung = Some("plain".to_owned()));
        let again = Memory::open(Some(home.path().to_owned()));
        assert_eq!(again.bucket("docs").rung.as_deref(), Some("plain"));
    }
}
