//! The device and the code that come with a request.

use crate::cloud::Cloud;
use crate::device::{Device, Redeemed};
use crate::exchange::Exchange;
use crate::refusal::Refusal;
use crate::users::User;

const WRONG_CODE: &str = "MultiFactorAuthentication failed with invalid MFA one time pass code.";
// Both spaces are AWS's.
const WRONG_SERIAL: &str = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA \
                            serial number is valid and associated with this user.";
const HALF_MFA: &str =
    "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code.";

/// A code that is right, and not used up yet.
pub(super) struct Mfa<'a> {
    device: Device,
    code: &'a str,
}

impl<'a> Mfa<'a> {
    /// Checks what came with a request of that user, if anything did: the device, then the code.
    pub(super) fn check(
        cloud: &Cloud,
        user: Option<&User>,
        serial: Option<&str>,
        code: Option<&'a str>,
        exchange: &Exchange,
    ) -> Result<Option<Self>, Refusal> {
        let (serial, code) = match (serial, code) {
            (None, None) => return Ok(None),
            (Some(serial), Some(code)) => (serial, code),
            _ => return Err(Refusal::access_denied(HALF_MFA)),
        };
        let device = user.and_then(|user| cloud.devices.of_user(user, serial));
        let device = device.ok_or(Refusal::access_denied(WRONG_SERIAL))?;
        accept(device.check(code), exchange)?;
        Ok(Some(Self { device, code }))
    }

    /// Uses the code up. Of several requests with the same code, one gets here first.
    pub(super) fn redeem(self, exchange: &Exchange) -> Result<(), Refusal> {
        accept(self.device.redeem(self.code), exchange)
    }
}

fn accept(redeemed: Redeemed, exchange: &Exchange) -> Result<(), Refusal> {
    match redeemed {
        Redeemed::Accepted => return Ok(()),
        Redeemed::Spent => exchange.set_code_was_spent(),
        Redeemed::Wrong => {}
    }
    Err(Refusal::access_denied(WRONG_CODE))
}
