//! MFA devices that show codes, and the rule that a code is good once.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use totp_rs::Secret;

use crate::clock::{Clock, unix_seconds};
use crate::totp::{self, STEP_SECONDS};

/// How many steps of drift are accepted on either side of the present one.
const DRIFT_STEPS: u64 = 1;

/// An MFA device of one user, virtual or hardware.
///
/// Each time step is good for one use; once a step was accepted, that step and all older ones are
/// refused (RFC 6238 section 5.2). A code that fails is not used up.
#[derive(Clone)]
pub struct Device {
    state: Arc<State>,
}

struct State {
    serial: String,
    owner: String,
    secret: Vec<u8>,
    clock: Clock,
    accepted: Mutex<BTreeSet<u64>>,
}

/// What a code is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redeemed {
    /// The step is fresh, or was until just now.
    Accepted,
    /// The code belongs to a step that was accepted before.
    Spent,
    /// The code belongs to no step that could be accepted.
    Wrong,
}

impl Device {
    pub(crate) fn new(serial: String, owner: String, secret: Vec<u8>, clock: Clock) -> Self {
        let accepted = Mutex::default();
        Self {
            state: Arc::new(State {
                serial,
                owner,
                secret,
                clock,
                accepted,
            }),
        }
    }

    /// Returns the serial number: `arn:aws:iam::ACCOUNT:mfa/NAME` of a virtual device, `GAHT12345678` of
    /// hardware.
    pub fn serial(&self) -> &str {
        &self.state.serial
    }

    /// Returns the name of the user whom the device belongs to.
    pub fn owner(&self) -> &str {
        &self.state.owner
    }

    /// Returns the secret in base32 without padding, as a QR code would carry it.
    pub fn secret_base32(&self) -> String {
        Secret::from(self.state.secret.clone()).to_base32()
    }

    /// Returns the six-digit code that the device shows now, spent or not.
    pub fn code(&self) -> String {
        self.code_at(self.state.clock.now())
    }

    /// Returns the six-digit code that the device shows at `time` of the sandbox's clock.
    pub fn code_at(&self, time: SystemTime) -> String {
        self.code_of(totp::step_at(time))
    }

    /// Returns a code that STS accepts right now.
    ///
    /// It is the present step's code; if that was used already, the next step's, which STS accepts
    /// as a device that is 30 seconds fast. If that was used as well, the clock is advanced until the
    /// one after it is the next step's. Asking uses nothing up: two calls without a request in between
    /// give the same code.
    pub fn unspent_code(&self) -> String {
        let present = totp::step_at(self.state.clock.now());
        let fresh = self.last_accepted().map_or(0, |last| last + 1);
        if fresh <= present + DRIFT_STEPS {
            return self.code_of(present.max(fresh));
        }
        // One step suffices, unless a skew has taken the clock back since.
        let missing = fresh - DRIFT_STEPS - present;
        let step = Duration::from_secs(STEP_SECONDS);
        self.state
            .clock
            .advance(step * u32::try_from(missing).unwrap_or(u32::MAX));
        self.code_of(fresh)
    }

    /// Returns the seconds (1 to 30) until the device shows another code.
    pub fn spare_seconds(&self) -> u64 {
        STEP_SECONDS - unix_seconds(self.state.clock.now()) % STEP_SECONDS
    }

    /// Tells whether the present step's code was accepted already.
    pub fn is_spent(&self) -> bool {
        let present = totp::step_at(self.state.clock.now());
        self.last_accepted().is_some_and(|last| present <= last)
    }

    /// Looks at a code without using it up.
    pub(crate) fn check(&self, code: &str) -> Redeemed {
        match self.judge(&self.state.accepted.lock(), code) {
            Ok(_) => Redeemed::Accepted,
            Err(refused) => refused,
        }
    }

    /// Uses a code up.
    pub(crate) fn redeem(&self, code: &str) -> Redeemed {
        let mut accepted = self.state.accepted.lock();
        match self.judge(&accepted, code) {
            Ok(step) => {
                accepted.insert(step);
                Redeemed::Accepted
            }
            Err(refused) => refused,
        }
    }

    /// The fresh step that a code belongs to.
    fn judge(&self, accepted: &BTreeSet<u64>, code: &str) -> Result<u64, Redeemed> {
        let present = totp::step_at(self.state.clock.now());
        let last = accepted.last().copied();
        let window = present.saturating_sub(DRIFT_STEPS)..=present + DRIFT_STEPS;
        let fresh = window
            .filter(|step| last.is_none_or(|last| *step > last))
            .find(|step| self.code_of(*step) == code);
        match fresh {
            Some(step) => Ok(step),
            None if accepted.iter().any(|step| self.code_of(*step) == code) => Err(Redeemed::Spent),
            None => Err(Redeemed::Wrong),
        }
    }

    fn last_accepted(&self) -> Option<u64> {
        self.state.accepted.lock().last().copied()
    }

    fn code_of(&self, step: u64) -> String {
        totp::code(&self.state.secret, step, totp::DIGITS)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("serial", &self.state.serial)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> (Device, Clock) {
        let clock = Clock::default();
        // Start early in a step, so that a slow test does not cross into the next one.
        clock.advance(Duration::from_secs(
            STEP_SECONDS - unix_seconds(clock.now()) % STEP_SECONDS,
        ));
        let secret = b"12345678901234567890".to_vec();
        (
            Device::new("serial".into(), "alice".into(), secret, clock.clone()),
            clock,
        )
    }

    #[test]
    fn a_step_is_good_once() {
        let (device, clock) = device();
        let code = device.code();
        assert_eq!(device.redeem("not it"), Redeemed::Wrong);
        assert_eq!(device.redeem(&code), Redeemed::Accepted);
        assert!(device.is_spent());
        assert_eq!(device.redeem(&code), Redeemed::Spent);
        let older = device.code_at(clock.now() - Duration::from_secs(STEP_SECONDS));
        assert_eq!(device.redeem(&older), Redeemed::Wrong);
        clock.advance(Duration::from_secs(STEP_SECONDS));
        assert_eq!(device.redeem(&device.code()), Redeemed::Accepted);
    }

    #[test]
    fn one_step_of_drift_is_accepted() {
        let (device, clock) = device();
        let step = Duration::from_secs(STEP_SECONDS);
        assert_eq!(
            device.redeem(&device.code_at(clock.now() - 2 * step)),
            Redeemed::Wrong
        );
        assert_eq!(
            device.redeem(&device.code_at(clock.now() + 2 * step)),
            Redeemed::Wrong
        );
        assert_eq!(
            device.redeem(&device.code_at(clock.now() - step)),
            Redeemed::Accepted
        );
        assert_eq!(
            device.redeem(&device.code_at(clock.now() + step)),
            Redeemed::Accepted
        );
    }

    #[test]
    fn an_unspent_code_is_always_accepted() {
        let (device, _clock) = device();
        for _ in 0..10 {
            let code = device.unspent_code();
            assert_eq!(device.unspent_code(), code);
            assert_eq!(device.redeem(&code), Redeemed::Accepted);
        }
    }

    #[test]
    fn an_unspent_code_is_accepted_by_a_clock_that_was_taken_back() {
        let (device, clock) = device();
        clock.set_skew_millis(3_600_000);
        assert_eq!(device.redeem(&device.code()), Redeemed::Accepted);
        clock.set_skew_millis(0);
        assert_eq!(device.redeem(&device.code()), Redeemed::Wrong);
        assert_eq!(device.redeem(&device.unspent_code()), Redeemed::Accepted);
    }

    #[test]
    fn the_secret_is_printed_in_base32() {
        assert_eq!(
            device().0.secret_base32(),
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        );
    }
}
