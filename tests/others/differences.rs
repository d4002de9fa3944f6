//! What a server is known to do otherwise: which battery does not hold there, how that shows, and
//! why. docs/OTHER-STORES.md says the same to people.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::place::Place;
use crate::servers::Server;

/// A battery that does not hold at a server.
struct Difference {
    /// The server, as [`Server::name`] has it.
    server: &'static str,
    /// The test's name.
    battery: &'static str,
    /// Words of the failure: another one is no known difference.
    symptom: &'static str,
    /// As in the document.
    reason: &'static str,
}

/// Why directories are as new there.
const SEAWEED_METADATA: &str = "SeaweedFS drops the metadata of an object whose name ends with a \
     slash: modes, owners and times of directories are not kept.";

const KNOWN: &[Difference] = &[
    Difference {
        server: "SeaweedFS",
        battery: "a_backslash_is_kept",
        symptom: "back",
        reason: "SeaweedFS takes a backslash for a slash.",
    },
    Difference {
        server: "SeaweedFS",
        battery: "attributes_links_and_directories_are_kept_as_others_keep_them",
        symptom: "application/x-directory",
        reason: SEAWEED_METADATA,
    },
    Difference {
        server: "SeaweedFS",
        battery: "tar_brings_a_tree_there_and_back",
        symptom: "Mode differs",
        reason: SEAWEED_METADATA,
    },
];

/// Runs a battery at a server, unless a part of it is missing. Where it is known to fail, it fails in
/// the known way.
pub fn run(battery: &str, start: fn(&str) -> Option<&'static Server>, test: fn(&Place)) {
    let Some(server) = start(battery) else {
        return;
    };
    let place = Place::on(server);
    let mut known = KNOWN.iter();
    let Some(known) = known.find(|known| known.server == server.name && known.battery == battery)
    else {
        return test(&place);
    };
    let Err(failure) = catch_unwind(AssertUnwindSafe(|| test(&place))) else {
        panic!(
            "{battery} holds at {} now: the difference can go from the table and the document",
            server.name
        );
    };
    let words = failure
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| failure.downcast_ref::<&str>().copied())
        .unwrap_or_default();
    if !words.contains(known.symptom) {
        resume_unwind(failure);
    }
    say(&format!(
        "KNOWN DIFFERENCE at {}: {battery}: {}",
        server.name, known.reason
    ));
}

/// Not `eprintln!`, which the test runner keeps to itself when a test passes.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

#[test]
fn the_document_tells_each_difference() {
    let document = include_str!("../../docs/OTHER-STORES.md");
    // As words, because the document breaks its lines elsewhere.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = words(document);
    for known in KNOWN {
        assert!(told.contains(&words(known.reason)), "{}", known.reason);
    }
}
