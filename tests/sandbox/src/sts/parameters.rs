//! The parameters of STS: AWS STS API reference.

use crate::cloud::Cloud;
use crate::query::constraints::{Examination, Text};
use crate::refusal::Refusal;

/// What `DurationSeconds` may not be less than.
const SHORTEST: i32 = 900;

/// The seconds of `DurationSeconds`, if it is there.
pub(super) fn duration(
    cloud: &Cloud,
    examination: &mut Examination<'_>,
    longest: i32,
) -> Result<Option<i32>, Refusal> {
    let shortest = if cloud.sessions.are_short_allowed() {
        1
    } else {
        SHORTEST
    };
    examination.number("DurationSeconds", "durationSeconds", shortest..=longest)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The printed pattern seems to let all of Unicode in; STS refuses what is beyond its first plane.
fn is_printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
}

pub(super) const SERIAL_NUMBER: Text = Text {
    parameter: "SerialNumber",
    member: "serialNumber",
    length: 9..=256,
    pattern: r"[\w+=/:,.@-]*",
    allows: |c| is_word(c) || "+=/:,.@-".contains(c),
    is_some: false,
};

pub(super) const TOKEN_CODE: Text = Text {
    parameter: "TokenCode",
    member: "tokenCode",
    length: 6..=6,
    pattern: r"[\d]*",
    allows: |c| c.is_ascii_digit(),
    is_some: false,
};

pub(super) const ROLE_ARN: Text = Text {
    parameter: "RoleArn",
    member: "roleArn",
    length: 20..=2048,
    pattern: r"[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+",
    allows: is_printable,
    is_some: true,
};

pub(super) const ROLE_SESSION_NAME: Text = Text {
    parameter: "RoleSessionName",
    member: "roleSessionName",
    length: 2..=64,
    pattern: r"[\w+=,.@-]*",
    allows: |c| is_word(c) || "+=,.@-".contains(c),
    is_some: false,
};

pub(super) const SOURCE_IDENTITY: Text = Text {
    parameter: "SourceIdentity",
    member: "sourceIdentity",
    ..ROLE_SESSION_NAME
};

pub(super) const WEB_IDENTITY_TOKEN: Text = Text {
    parameter: "WebIdentityToken",
    member: "webIdentityToken",
    length: 4..=20_000,
    // It has none.
    pattern: "",
    allows: |_| true,
    is_some: false,
};

pub(super) const EXTERNAL_ID: Text = Text {
    parameter: "ExternalId",
    member: "externalId",
    length: 2..=1224,
    pattern: r"[\w+=,.@:\/-]*",
    allows: |c| is_word(c) || "+=,.@:/-".contains(c),
    is_some: false,
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::query::Form;

    #[test]
    fn text_is_counted_in_characters_and_may_not_leave_the_first_plane() {
        let faults = |arn: &str| {
            let arn: String = form_urlencoded::byte_serialize(arn.as_bytes()).collect();
            let form = Form::read(&format!("RoleArn={arn}").into());
            let mut examination = Examination::of(&form);
            examination.required(&ROLE_ARN);
            examination.end().err().map(|refusal| refusal.message)
        };
        assert_eq!(faults(&"\u{e9}".repeat(2048)), None);
        let too_long = faults(&"\u{e9}".repeat(2049)).unwrap();
        assert!(too_long.starts_with("1 ") && too_long.ends_with("less than or equal to 2048"));
        let beyond = faults(&"\u{1f511}".repeat(20)).unwrap();
        assert!(beyond.starts_with("1 ") && beyond.contains("regular expression pattern"));
    }
}
