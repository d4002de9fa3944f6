//! What names an MFA device.

use super::IdentityError;

/// The ARN of a virtual device, or the number on a hardware one: what STS calls `SerialNumber`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Serial(String);

impl Serial {
    /// Reads a serial as people give it. `:user/` is read as the `:mfa/` that was meant.
    pub(crate) fn parse(text: &str) -> Result<Self, IdentityError> {
        let text = text.trim();
        let shown = crate::words::tame(text);
        // API reference of GetSessionToken: SerialNumber.
        let is_fine = |c: char| c.is_alphanumeric() || "+=/:,.@-_".contains(c);
        if !(9..=256).contains(&text.chars().count()) || !text.chars().all(is_fine) {
            return Err(IdentityError(format!(
                "{shown:?} is no MFA device: it is an ARN such as \
                 arn:aws:iam::123456789012:mfa/alice, or the number on a hardware device"
            )));
        }
        if is_passkey(text) {
            return Err(IdentityError(format!(
                "{shown} is a passkey or security key, which gives no code: add an authenticator \
                 app to the user (IAM console, Security credentials, Assign MFA device), and name \
                 that device. A profile of `aws login` can use the passkey itself"
            )));
        }
        if text.starts_with("arn:") && text.contains(":user/") {
            let corrected = text.replacen(":user/", ":mfa/", 1);
            tracing::warn!("{shown} names the user, not the device: trying {corrected}");
            return Ok(Self(corrected));
        }
        if text.starts_with("arn:") && !text.contains(":mfa/") && !text.contains(":sms-mfa/") {
            return Err(IdentityError(format!(
                "{shown} is no MFA device: the ARN of one has :mfa/ in it, such as \
                 arn:aws:iam::123456789012:mfa/alice"
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// As STS takes it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a serial is of a FIDO key, which STS knows no codes of (IAM user guide, "Configuring
/// MFA-protected API access").
pub(crate) fn is_passkey(serial: &str) -> bool {
    serial.contains(":u2f/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(serial: &str) -> Result<String, String> {
        Serial::parse(serial)
            .map(|serial| serial.0)
            .map_err(|error| error.0)
    }

    #[test]
    fn devices_of_every_kind_and_partition_are_known() {
        for serial in [
            "GAHT12345678",
            "arn:aws:iam::123456789012:mfa/alice",
            "arn:aws-cn:iam::123456789012:mfa/alice",
            "arn:aws-us-gov:iam::123456789012:mfa/path/alice",
        ] {
            assert_eq!(check(serial), Ok(serial.to_owned()));
        }
    }

    #[test]
    fn a_user_is_read_as_the_device_of_that_name() {
        assert_eq!(
            check("arn:aws:iam::123456789012:user/alice"),
            Ok("arn:aws:iam::123456789012:mfa/alice".to_owned())
        );
    }

    #[test]
    fn what_gives_no_code_is_refused_with_the_alternative() {
        let error = check("arn:aws:iam::123456789012:u2f/user/alice/key").unwrap_err();
        assert!(error.contains("authenticator app"), "{error}");
        assert!(check("short").is_err());
        assert!(check("arn:aws:iam::123456789012:role/alice").is_err());
    }
}
