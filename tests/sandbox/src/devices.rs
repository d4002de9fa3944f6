//! The MFA devices of the account's users.

use std::time::SystemTime;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::device::Device;
use crate::random::Random;
use crate::users::User;

/// Bytes of a device's secret: 160 bits, as RFC 4226 section 4 recommends.
const SECRET_BYTES: usize = 20;

/// A device that was assigned to a user.
#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    pub(crate) serial: String,
    pub(crate) owner: String,
    pub(crate) since: SystemTime,
    /// `None` for passkeys: they sign, and give no codes.
    device: Option<Device>,
}

/// All devices, in the order they were assigned.
#[derive(Debug)]
pub(crate) struct Devices {
    account: String,
    clock: Clock,
    assigned: Mutex<Vec<Assigned>>,
}

impl Devices {
    pub(crate) fn new(account: String, clock: Clock) -> Self {
        Self {
            account,
            clock,
            assigned: Mutex::default(),
        }
    }

    /// Adds a virtual device. The first of a user is named as the user is, later ones are numbered.
    pub(crate) fn create_virtual(&self, user: &User, random: &Random) -> Device {
        let name = format!("arn:aws:iam::{}:mfa/{}", self.account, user.name());
        let mut assigned = self.assigned.lock();
        let is_taken = |serial: &str| assigned.iter().any(|device| device.serial == serial);
        let mut serial = name.clone();
        let mut number = 1;
        while is_taken(&serial) {
            number += 1;
            serial = format!("{name}-{number}");
        }
        let device = self.device(serial, user, random);
        assigned.push(self.assign(&device));
        device
    }

    /// Adds a device with a keyring and a display, known by what is printed on its back.
    pub(crate) fn create_hardware(&self, user: &User, random: &Random) -> Device {
        let device = self.device(format!("GAHT{}", random.digits(8)), user, random);
        self.assigned.lock().push(self.assign(&device));
        device
    }

    pub(crate) fn create_passkey(&self, user: &User, name: &str, random: &Random) -> String {
        let serial = format!(
            "arn:aws:iam::{}:u2f/user/{}/{name}-{}",
            self.account,
            user.name(),
            random.base32(26)
        );
        self.assigned.lock().push(Assigned {
            serial: serial.clone(),
            owner: user.name().to_owned(),
            since: self.clock.now(),
            device: None,
        });
        serial
    }

    fn device(&self, serial: String, user: &User, random: &Random) -> Device {
        let secret = random.bytes(SECRET_BYTES);
        Device::new(serial, user.name().to_owned(), secret, self.clock.clone())
    }

    fn assign(&self, device: &Device) -> Assigned {
        Assigned {
            serial: device.serial().to_owned(),
            owner: device.owner().to_owned(),
            since: self.clock.now(),
            device: Some(device.clone()),
        }
    }

    pub(crate) fn delete(&self, serial: &str) {
        self.assigned
            .lock()
            .retain(|device| device.serial != serial);
    }

    /// The device with that serial number that gives codes, if it is the user's own.
    pub(crate) fn of_user(&self, user: &User, serial: &str) -> Option<Device> {
        let assigned = self.assigned.lock();
        let mut assigned = assigned.iter();
        assigned
            .find(|device| device.serial == serial && device.owner == user.name())?
            .device
            .clone()
    }

    pub(crate) fn list(&self, owner: &str) -> Vec<Assigned> {
        let assigned = self.assigned.lock();
        let owned = assigned.iter().filter(|device| device.owner == owner);
        owned.cloned().collect()
    }
}
