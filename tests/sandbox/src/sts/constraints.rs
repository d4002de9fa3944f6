//! What the service model of STS asks of parameters, and how STS says that it is not so.

use std::ops::RangeInclusive;

use crate::query::Form;
use crate::refusal::Refusal;

/// What `DurationSeconds` may not be less than: AWS STS API reference.
pub(super) const SHORTEST: i32 = 900;

/// A parameter that is text, and what it may be.
pub(super) struct Text {
    parameter: &'static str,
    /// The parameter as errors name it.
    member: &'static str,
    length: RangeInclusive<usize>,
    /// As errors print it.
    pattern: &'static str,
    allows: fn(char) -> bool,
    /// Whether no text at all is one too few for the pattern.
    is_some: bool,
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

pub(super) const EXTERNAL_ID: Text = Text {
    parameter: "ExternalId",
    member: "externalId",
    length: 2..=1224,
    pattern: r"[\w+=,.@:\/-]*",
    allows: |c| is_word(c) || "+=,.@:/-".contains(c),
    is_some: false,
};

/// The parameters of a request under examination: STS tells all that is wrong at once.
pub(super) struct Examination<'a> {
    form: &'a Form,
    faults: Vec<String>,
}

impl<'a> Examination<'a> {
    pub(super) fn of(form: &'a Form) -> Self {
        let faults = Vec::new();
        Self { form, faults }
    }

    fn fault(&mut self, value: &str, member: &str, constraint: &str) {
        self.faults.push(format!(
            "Value {value} at '{member}' failed to satisfy constraint: Member must {constraint}"
        ));
    }

    pub(super) fn optional(&mut self, text: &Text) -> Option<&'a str> {
        let value = self.form.get(text.parameter)?;
        let quoted = format!("'{value}'");
        let length = value.chars().count();
        let (shortest, longest) = (text.length.start(), text.length.end());
        if length < *shortest {
            let constraint = format!("have length greater than or equal to {shortest}");
            self.fault(&quoted, text.member, &constraint);
        }
        if length > *longest {
            let constraint = format!("have length less than or equal to {longest}");
            self.fault(&quoted, text.member, &constraint);
        }
        if !value.chars().all(text.allows) || (text.is_some && value.is_empty()) {
            let constraint = format!("satisfy regular expression pattern: {}", text.pattern);
            self.fault(&quoted, text.member, &constraint);
        }
        Some(value)
    }

    /// An absent value is a fault, and then empty.
    pub(super) fn required(&mut self, text: &Text) -> &'a str {
        match self.optional(text) {
            Some(value) => value,
            None => {
                self.fault("null", text.member, "not be null");
                ""
            }
        }
    }

    /// The seconds of `DurationSeconds`, if it is there. What is no number at all is refused at once.
    pub(super) fn duration(
        &mut self,
        allow_short: bool,
        longest: i32,
    ) -> Result<Option<i32>, Refusal> {
        let Some(text) = self.form.get("DurationSeconds") else {
            return Ok(None);
        };
        let Ok(seconds) = text.parse::<i32>() else {
            let message = if text.is_empty() {
                "missing value for decimal type"
            } else {
                ""
            };
            return Err(Refusal::new(400, "MalformedInput", message));
        };
        let quoted = format!("'{seconds}'");
        if seconds < if allow_short { 1 } else { SHORTEST } {
            let constraint = format!("have value greater than or equal to {SHORTEST}");
            self.fault(&quoted, "durationSeconds", &constraint);
        }
        if seconds > longest {
            let constraint = format!("have value less than or equal to {longest}");
            self.fault(&quoted, "durationSeconds", &constraint);
        }
        Ok(Some(seconds))
    }

    pub(super) fn end(self) -> Result<(), Refusal> {
        let count = self.faults.len();
        let errors = match count {
            0 => return Ok(()),
            1 => "error",
            _ => "errors",
        };
        Err(invalid(format!(
            "{count} validation {errors} detected: {}",
            self.faults.join("; ")
        )))
    }
}

pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(400, "ValidationError", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn duration(text: &str) -> Result<Option<i32>, Refusal> {
        let form = Form::read(&format!("DurationSeconds={text}").into());
        let mut examination = Examination::of(&form);
        let seconds = examination.duration(false, 43_200)?;
        examination.end()?;
        Ok(seconds)
    }

    #[test]
    fn a_duration_is_a_number_of_32_bits_with_a_sign() {
        assert_eq!(duration("%2B900").unwrap(), Some(900));
        assert_eq!(duration("0900").unwrap(), Some(900));
        for text in ["-1", "899", "43201", "2147483647"] {
            assert_eq!(duration(text).unwrap_err().code, "ValidationError");
        }
        for text in ["2147483648", "900.0", "an hour", ""] {
            assert_eq!(duration(text).unwrap_err().code, "MalformedInput");
        }
    }

    #[test]
    fn text_is_counted_in_characters_and_may_not_leave_the_first_plane() {
        let faults = |arn: &str| {
            let form = Form(vec![("RoleArn".to_owned(), arn.to_owned())]);
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
