//! Time-based one-time passwords, RFC 6238 with SHA-1 and steps of 30 seconds.

use std::time::SystemTime;

use totp_rs::Builder;

use crate::clock::unix_seconds;

/// Length of a time step in seconds, the default of RFC 6238 section 4.1 and what AWS uses.
pub const STEP_SECONDS: u64 = 30;

/// Number of digits of a code that AWS accepts.
pub const DIGITS: u8 = 6;

/// Returns the number of the time step that holds `time`.
pub fn step_at(time: SystemTime) -> u64 {
    unix_seconds(time) / STEP_SECONDS
}

/// Returns the code of `step` with `digits` digits (6 to 8), zeros in front included.
pub fn code(secret: &[u8], step: u64, digits: u8) -> String {
    let totp = Builder::new()
        .with_digits(digits.clamp(6, 8))
        .with_step_duration(STEP_SECONDS)
        .with_secret(secret.to_vec())
        .build_noncompliant();
    totp.generate(step * STEP_SECONDS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    // RFC 6238 appendix B, the SHA-1 rows: time in seconds and the 8-digit code.
    const VECTORS: [(u64, &str); 6] = [
        (59, "94287082"),
        (1_111_111_109, "07081804"),
        (1_111_111_111, "14050471"),
        (1_234_567_890, "89005924"),
        (2_000_000_000, "69279037"),
        (20_000_000_000, "65353130"),
    ];

    #[test]
    fn rfc_6238_appendix_b() {
        let secret = b"12345678901234567890";
        for (seconds, expected) in VECTORS {
            let step = step_at(UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(code(secret, step, 8), expected, "at {seconds}");
            // A shorter code is the tail of a longer one: both are the value modulo a power of ten.
            assert_eq!(code(secret, step, DIGITS), expected[2..], "at {seconds}");
        }
    }
}
