//! What commands print, word by word, in `transcripts/`.
//!
//! `S3MFA_TRANSCRIPTS=write cargo test --test ways` writes them anew; read the difference before it is
//! committed.

use std::fs;
use std::path::PathBuf;

use crate::case::Stage;

/// What a command prints must be what it printed before.
pub fn transcript(name: &str, printed: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/ways/transcripts")
        .join(format!("{name}.txt"));
    if std::env::var_os("S3MFA_TRANSCRIPTS").is_some_and(|value| value == "write") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, printed).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        printed == expected,
        "{name} is not what it was.\n--- expected\n{expected}\n--- printed\n{printed}"
    );
}

/// Puts names where the sandbox has something else in each run.
pub fn tame(stage: &Stage, text: &str) -> String {
    let scene = &stage.scene;
    let mut text = text
        .replace(scene.alice.access_key_id(), "AKIAALICE")
        .replace(scene.sandbox.endpoint(), "ENDPOINT")
        .replace(scene.home().to_str().unwrap(), "HOME");
    // Request ids, and what passkeys are called.
    for (before, after) in [("(request ", ")"), ("/key-", ")")] {
        let mut tamed = String::new();
        let mut rest = text.as_str();
        while let Some((head, tail)) = rest.split_once(before) {
            tamed.push_str(head);
            tamed.push_str(before);
            tamed.push('X');
            rest = &tail[tail.find(after).unwrap_or(tail.len())..];
        }
        tamed.push_str(rest);
        text = tamed;
    }
    without_moments(&text)
}

/// `WHEN` for each moment, `2026-01-31 23:59:59`, `2026-01-31T23:59:59.123Z` or `at 23:59`.
fn without_moments(text: &str) -> String {
    const MOMENT: &[u8] = b"0000-00-00_00:00:00";
    const TIME: &[u8] = b"00:00";
    let bytes = text.as_bytes();
    let has_shape = |at: usize, shape: &[u8]| {
        bytes.get(at..at + shape.len()).is_some_and(|found| {
            found.iter().zip(shape).all(|(found, shape)| match shape {
                b'0' => found.is_ascii_digit(),
                b'_' => matches!(found, b' ' | b'T'),
                shape => found == shape,
            })
        })
    };
    let (mut tamed, mut at) = (String::new(), 0);
    while at < bytes.len() {
        if text[..at].ends_with(' ') && has_shape(at, TIME) {
            tamed.push_str("WHEN");
            at += TIME.len();
        } else if has_shape(at, MOMENT) {
            tamed.push_str("WHEN");
            at += MOMENT.len();
            let rest = &bytes[at..];
            let fraction = rest.iter().take_while(|b| matches!(b, b'.' | b'0'..=b'9'));
            at += fraction.count();
            at += usize::from(bytes.get(at) == Some(&b'Z'));
        } else {
            // A whole character: what is cut here begins and ends with ASCII.
            let next = text[at..].chars().next().unwrap();
            tamed.push(next);
            at += next.len_utf8();
        }
    }
    tamed
}
