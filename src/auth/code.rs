//! Six-digit codes: what a person may type, and which codes must not be sent again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret, SecretString};

/// How long a time step of RFC 6238 lasts with every device that AWS supports.
pub(crate) const STEP: Duration = Duration::from_secs(30);

/// A code of exactly six ASCII digits, as `TokenCode` of STS demands.
#[derive(Debug, Clone)]
pub(crate) struct Code(SecretString);

/// Why what was typed cannot be a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodeError {
    /// Nothing, or only blanks.
    #[error("No code was typed. It is the six digits that your MFA device shows.")]
    Empty,
    /// Something besides digits and blanks.
    #[error("A code has digits only. Type the six digits that your MFA device shows.")]
    NotDigits,
    /// Digits, but not six.
    #[error("A code has six digits, this one has {0}. Type what your MFA device shows now.")]
    Length(usize),
}

impl Code {
    /// Reads a code as people type it: blanks and dashes between groups are dropped.
    pub(crate) fn parse(typed: &SecretString) -> Result<Self, CodeError> {
        let typed = typed.expose_secret();
        let kept = || typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
        let length = kept().count();
        if length == 0 {
            Err(CodeError::Empty)
        } else if !kept().all(|c| c.is_ascii_digit()) {
            Err(CodeError::NotDigits)
        } else if length != 6 {
            Err(CodeError::Length(length))
        } else {
            let mut digits = String::with_capacity(6);
            digits.extend(kept());
            Ok(Self(digits.into()))
        }
    }

    /// The six digits, for the request to STS and nothing else.
    pub(crate) fn digits(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Whether a device shows one code at both moments.
pub(crate) fn is_same_step(one: SystemTime, other: SystemTime) -> bool {
    let step = |moment: SystemTime| {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs() / STEP.as_secs()
    };
    step(one) == step(other)
}

/// How long until the device shows its next code: 1 to 30 seconds.
pub(crate) fn until_next_step(now: SystemTime) -> Duration {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    STEP - Duration::from_secs(since % STEP.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn code(typed: &str) -> Result<Code, CodeError> {
        Code::parse(&typed.to_owned().into())
    }

    #[test]
    fn blanks_between_groups_are_dropped() {
        for typed in ["123456", " 123 456 ", "123-456", "1 2 3 4 5 6\n"] {
            assert_eq!(code(typed).unwrap().digits(), "123456", "{typed:?}");
        }
    }

    #[test]
    fn anything_but_six_digits_is_refused_with_its_reason() {
        assert_eq!(code(" ").unwrap_err(), CodeError::Empty);
        assert_eq!(code("12345").unwrap_err(), CodeError::Length(5));
        assert_eq!(code("1234567").unwrap_err(), CodeError::Length(7));
        assert_eq!(code("12a456").unwrap_err(), CodeError::NotDigits);
        // Digits of other scripts are digits to Unicode and not to STS.
        assert_eq!(code("١٢٣٤٥٦").unwrap_err(), CodeError::NotDigits);
    }

    #[test]
    fn the_next_step_is_at_most_thirty_seconds_away() {
        let at = |s| until_next_step(UNIX_EPOCH + Duration::from_secs(s)).as_secs();
        assert_eq!((at(0), at(1), at(29), at(30)), (30, 29, 1, 30));
        let moment = |s| UNIX_EPOCH + Duration::from_secs(s);
        assert!(is_same_step(moment(30), moment(59)));
        assert!(!is_same_step(moment(29), moment(30)));
    }
}
