//! The codes that STS has seen, and will refuse when it sees them again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::code::{Code, is_same_step};
use super::identity::serial::Serial;
use super::shared::{Shelf, millis};

/// How long a spent code is remembered.
///
/// AWS accepts a device that is a few steps off, and lets each step be used once. A code is
/// therefore dead for good once the steps around it have passed; five minutes is generous.
const SPENT_FOR: Duration = Duration::from_secs(300);

/// Remembers them for all programs of the user.
#[derive(Debug)]
pub(crate) struct SpentCodes(Arc<Shelf>);

/// A code that opens nothing any more.
#[derive(Serialize, Deserialize)]
struct Spent {
    digits: String,
    #[serde(with = "millis")]
    at: Option<SystemTime>,
}

impl SpentCodes {
    /// Remembers them on this shelf.
    pub(crate) fn new(shelf: &Arc<Shelf>) -> Self {
        Self(Arc::clone(shelf))
    }

    /// Remembers that STS took a code, or may have.
    pub(crate) fn add(&self, serial: &Serial, code: &Code, now: SystemTime) {
        let mut all = self.all(serial);
        all.retain(|spent| spent.is_recent(now));
        all.push(Spent {
            digits: code.digits().to_owned(),
            at: Some(now),
        });
        if let Ok(bytes) = serde_json::to_vec(&all) {
            self.0.put(&file(serial), bytes.into());
        }
    }

    /// Forgets a code that STS did not take.
    pub(crate) fn remove(&self, serial: &Serial, code: &Code) {
        let mut all = self.all(serial);
        all.retain(|spent| spent.digits != code.digits());
        if let Ok(bytes) = serde_json::to_vec(&all) {
            self.0.put(&file(serial), bytes.into());
        }
    }

    /// Whether sending this code would be sending a spent step.
    pub(crate) fn contains(&self, serial: &Serial, code: &Code, now: SystemTime) -> bool {
        let mut all = self.all(serial).into_iter();
        all.any(|spent| spent.digits == code.digits() && spent.is_recent(now))
    }

    /// Whether a code of this device was sent since it began to show the present one, which is
    /// spent most likely.
    pub(crate) fn has_one_of_now(&self, serial: &Serial, now: SystemTime) -> bool {
        let mut moments = self.all(serial).into_iter().filter_map(|spent| spent.at);
        moments.any(|at| is_same_step(at, now))
    }

    fn all(&self, serial: &Serial) -> Vec<Spent> {
        let bytes = self.0.get(&file(serial));
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }
}

impl Spent {
    fn is_recent(&self, now: SystemTime) -> bool {
        // A clock that was set back must not make a spent code look fresh.
        self.at
            .is_some_and(|at| now.duration_since(at).is_ok_and(|age| age < SPENT_FOR) || now < at)
    }
}

fn file(serial: &Serial) -> String {
    format!("{}.spent", Shelf::name(&["spent", serial.as_str()]))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_spent_code_is_known_until_its_steps_have_passed() {
        let code = |typed: &str| Code::parse(&typed.to_owned().into()).unwrap();
        let device = |name| Serial::parse(name).unwrap();
        let (phone, token) = (device("GAHT00000001"), device("GAHT00000002"));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let directory = tempfile::tempdir().unwrap();
        for place in [None, Some(directory.path().join("run"))] {
            let spent = SpentCodes::new(&Shelf::new(place));
            spent.add(&phone, &code("123456"), now);
            let knows = |device, typed: &str, at| spent.contains(device, &code(typed), at);
            assert!(knows(&phone, "123 456", now));
            assert!(knows(&phone, "123456", now + Duration::from_secs(90)));
            assert!(knows(&phone, "123456", now - Duration::from_secs(90)));
            assert!(!knows(&phone, "654321", now));
            assert!(!knows(&token, "123456", now));
            assert!(!knows(&phone, "123456", now + SPENT_FOR));
            // 1,000,000 is 10 s into its step.
            let left = Duration::from_secs(19);
            assert!(spent.has_one_of_now(&phone, now + left));
            assert!(!spent.has_one_of_now(&phone, now + left + Duration::from_secs(1)));
            assert!(!spent.has_one_of_now(&token, now));
        }
    }
}
