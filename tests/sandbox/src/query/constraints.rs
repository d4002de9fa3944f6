//! What service models ask of parameters, and how a service says that it is not so.

use std::ops::RangeInclusive;

use super::Form;
use crate::refusal::Refusal;

/// A parameter that is text, and what it may be.
pub(crate) struct Text {
    pub(crate) parameter: &'static str,
    /// The parameter as errors name it.
    pub(crate) member: &'static str,
    pub(crate) length: RangeInclusive<usize>,
    /// As errors print it.
    pub(crate) pattern: &'static str,
    pub(crate) allows: fn(char) -> bool,
    /// Whether no text at all is too little for the pattern.
    pub(crate) is_some: bool,
}

/// The parameters of a request under examination: all that is wrong is told at once.
pub(crate) struct Examination<'a> {
    form: &'a Form,
    faults: Vec<String>,
}

impl<'a> Examination<'a> {
    pub(crate) fn of(form: &'a Form) -> Self {
        let faults = Vec::new();
        Self { form, faults }
    }

    fn fault(&mut self, value: &str, member: &str, constraint: &str) {
        self.faults.push(format!(
            "Value {value} at '{member}' failed to satisfy constraint: Member must {constraint}"
        ));
    }

    pub(crate) fn optional(&mut self, text: &Text) -> Option<&'a str> {
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
    pub(crate) fn required(&mut self, text: &Text) -> &'a str {
        match self.optional(text) {
            Some(value) => value,
            None => {
                self.fault("null", text.member, "not be null");
                ""
            }
        }
    }

    /// A whole number, if it is there. What is no number at all is refused at once.
    pub(crate) fn number(
        &mut self,
        parameter: &str,
        member: &str,
        bounds: RangeInclusive<i32>,
    ) -> Result<Option<i32>, Refusal> {
        let Some(text) = self.form.get(parameter) else {
            return Ok(None);
        };
        let Ok(number) = text.parse::<i32>() else {
            let message = if text.is_empty() {
                "missing value for decimal type"
            } else {
                ""
            };
            return Err(Refusal::new(400, "MalformedInput", message));
        };
        let (quoted, least, most) = (format!("'{number}'"), bounds.start(), bounds.end());
        if number < *least {
            let constraint = format!("have value greater than or equal to {least}");
            self.fault(&quoted, member, &constraint);
        }
        if number > *most {
            let constraint = format!("have value less than or equal to {most}");
            self.fault(&quoted, member, &constraint);
        }
        Ok(Some(number))
    }

    pub(crate) fn end(self) -> Result<(), Refusal> {
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

pub(crate) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(400, "ValidationError", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn duration(text: &str) -> Result<Option<i32>, Refusal> {
        let form = Form::read(&format!("DurationSeconds={text}").into());
        let mut examination = Examination::of(&form);
        let seconds = examination.number("DurationSeconds", "durationSeconds", 900..=43_200)?;
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
}
