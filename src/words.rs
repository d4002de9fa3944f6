//! Words from outside, made safe to show.

/// The longest text of a server that is shown, in characters.
const LONGEST: usize = 300;

/// Makes a string that a server, a key or a program chose fit for a terminal, a dialog and a
/// log: no control characters, no direction overrides, a bounded length.
pub(crate) fn tame(text: &str) -> String {
    let mut tamed: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if is_harmless(c) { c } else { '\u{fffd}' })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        tamed.push('…');
    }
    tamed
}

fn is_harmless(c: char) -> bool {
    // The bidirectional controls of Unicode (UAX #9) can make a text read as another.
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::tame;

    #[test]
    fn escapes_and_overrides_do_not_pass() {
        assert_eq!(
            tame("a\x1b[31mb\nc\u{202e}d"),
            "a\u{fffd}[31mb\u{fffd}c\u{fffd}d"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let tamed = tame(&"ä".repeat(1000));
        assert_eq!(tamed.chars().count(), 301);
        assert!(tamed.ends_with('…'));
    }
}
