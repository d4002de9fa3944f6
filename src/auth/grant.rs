//! What STS grants, read with care: what it does not say is unknown, and what cannot be a session is
//! an error that is told once, rather than a session that asks for the next code at once.

use std::time::SystemTime;

use aws_credential_types::Credentials;

use super::MARGIN;
use super::sts::{Issued, StsError};
use crate::clock::rfc3339;

/// Reads what the STS at `place` granted, at a moment.
///
/// Without an `Expiration` the end is unknown: the session is used until S3 refuses it.
///
/// # Errors
///
/// [`StsError::Useless`] for keys without a part of them, and for a session that is over already.
pub(super) fn read(
    credentials: Option<aws_sdk_sts::types::Credentials>,
    how: &'static str,
    place: &str,
    now: SystemTime,
) -> Result<Issued, StsError> {
    let Some(credentials) = credentials else {
        return Err(StsError::Useless(format!(
            "STS at {place} answered without credentials: is --sts-endpoint-url an STS?"
        )));
    };
    let parts = [
        ("AccessKeyId", &credentials.access_key_id),
        ("SecretAccessKey", &credentials.secret_access_key),
        ("SessionToken", &credentials.session_token),
    ];
    if let Some((name, _)) = parts.into_iter().find(|(_, part)| part.is_empty()) {
        return Err(StsError::Useless(format!(
            "STS at {place} granted a session without {name}: is --sts-endpoint-url an STS?"
        )));
    }
    let expires = end(&credentials.expiration);
    if let Some(end) = expires.filter(|end| *end <= now + MARGIN) {
        return Err(StsError::Useless(format!(
            "STS at {place} granted a session that is over already: it ends at {}, and it is {}. \
             Compare the clocks of this machine (`date -u`) and of the store",
            rfc3339(end),
            rfc3339(now)
        )));
    }
    Ok(Issued {
        expires,
        credentials: Credentials::new(
            credentials.access_key_id,
            credentials.secret_access_key,
            Some(credentials.session_token),
            expires,
            how,
        ),
    })
}

/// When a session ends, if that was said: the SDK puts the beginning of 1970 where nothing is
/// (`credentials_correct_errors` of aws-sdk-sts).
fn end(expiration: &aws_sdk_sts::primitives::DateTime) -> Option<SystemTime> {
    let is_said = expiration.as_nanos() != 0;
    let end = SystemTime::try_from(*expiration).ok();
    end.filter(|_| is_said)
}

/// An answer of success that cannot be read.
pub(super) fn unreadable(place: &str, error: &(dyn std::error::Error + 'static)) -> StsError {
    let mut cause = Some(error);
    let mut is_time = false;
    while let Some(error) = cause {
        is_time |= error.to_string().contains("timestamp");
        cause = error.source();
    }
    let what = match is_time {
        true => "its Expiration is no time of ISO 8601",
        false => "it has not the form of AWS's answers",
    };
    StsError::Useless(format!(
        "STS at {place} granted a session that cannot be read: {what}. Is --sts-endpoint-url an STS?"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sdk_sts::primitives::DateTime;
    use aws_sdk_sts::types::Credentials as Granted;

    use super::*;

    const NOW: u64 = 1_780_000_000;

    fn granted(token: &str, expires: i64) -> Result<Issued, StsError> {
        let credentials = Granted::builder()
            .access_key_id("ASIA")
            .secret_access_key("secret")
            .session_token(token)
            .expiration(DateTime::from_secs(expires))
            .build()
            .unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        read(Some(credentials), "test", "here", now)
    }

    fn useless(result: Result<Issued, StsError>) -> String {
        match result {
            Err(error @ StsError::Useless(_)) => {
                assert!(error.may_have_spent_it());
                error.to_string()
            }
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn what_sts_does_not_say_of_the_end_is_unknown() {
        let issued = granted("token", 0).unwrap();
        assert_eq!(issued.expires, None);
        assert_eq!(issued.credentials.expiry(), None);
    }

    #[test]
    fn a_session_that_is_over_already_is_an_error() {
        let now = i64::try_from(NOW).unwrap();
        for left in [-3600, 0, 1, 2] {
            let text = useless(granted("token", now + left));
            assert!(text.contains("over already"), "{text}");
        }
        assert!(granted("token", now + 3).is_ok());
    }

    #[test]
    fn keys_that_lack_a_part_are_an_error_that_names_it() {
        let now = i64::try_from(NOW).unwrap();
        let text = useless(granted("", now + 900));
        assert!(text.contains("without SessionToken"), "{text}");
    }
}
