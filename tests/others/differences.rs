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
    /// Whether this program can learn to do it all the same. Then it may hold any day; where the
    /// server is to change, that is news, and the test fails.
    ours: bool,
}

/// Why a directory keeps its name there.
const SEAWEED_DIRECTORIES: &str = "SeaweedFS says of a directory that nobody put that it is there, \
     with an ETag that no condition accepts, and copies no object whose name ends with a slash.";

/// Why directories are as new there.
const SEAWEED_METADATA: &str = "SeaweedFS drops the metadata of an object whose name ends with a \
     slash: modes, owners and times of directories are not kept.";

/// Why a listing with such a name is none there.
const UNENCODED: &str = "A listing that is not asked for with encoding-type=url has characters in \
     it that XML cannot say: SeaweedFS puts others in their place, Swift answers 500.";

/// Why files in parts are as if somebody else had changed them there.
const SWIFT_PARTS: &str = "Swift 2.30 compares x-amz-copy-source-if-match with another ETag than it \
     gives out for an object in parts: 412 for the right one.";

/// What is left there.
const SWIFT_UPLOADS: &str = "The upload that a killed daemon had begun is still listed as open.";

const KNOWN: &[Difference] = &[
    Difference {
        server: "Ceph",
        battery: "both_versions_of_a_large_file_are_kept",
        symptom: "on an `Ok` value",
        reason: "a fault of ours, to be mended first: fsync of a large file that somebody else has \
                 replaced meanwhile says ok",
        ours: true,
    },
    Difference {
        server: "SeaweedFS",
        battery: "names_change",
        symptom: "Directory not empty",
        reason: SEAWEED_DIRECTORIES,
        ours: true,
    },
    Difference {
        server: "SeaweedFS",
        battery: "names_of_three_pages_are_listed_moved_and_removed",
        symptom: "Os { code: ",
        reason: SEAWEED_DIRECTORIES,
        ours: true,
    },
    Difference {
        server: "SeaweedFS",
        battery: "odd_names_are_kept",
        symptom: "renaming the directory",
        reason: SEAWEED_DIRECTORIES,
        ours: true,
    },
    Difference {
        server: "SeaweedFS",
        battery: "names_that_xml_cannot_say_are_kept",
        symptom: "",
        reason: UNENCODED,
        ours: true,
    },
    Difference {
        server: "SeaweedFS",
        battery: "a_backslash_is_kept",
        symptom: "back",
        reason: "SeaweedFS takes a backslash for a slash.",
        ours: false,
    },
    Difference {
        server: "SeaweedFS",
        battery: "attributes_links_and_directories_are_kept_as_others_keep_them",
        symptom: "application/x-directory",
        reason: SEAWEED_METADATA,
        ours: false,
    },
    Difference {
        server: "SeaweedFS",
        battery: "tar_brings_a_tree_there_and_back",
        symptom: "Mode differs",
        reason: SEAWEED_METADATA,
        ours: false,
    },
    Difference {
        server: "Swift 2.30",
        battery: "names_change",
        symptom: "Stale file handle",
        reason: SWIFT_PARTS,
        ours: true,
    },
    Difference {
        server: "Swift 2.30",
        battery: "contents_of_large_files_change",
        symptom: "no name beside it is free",
        reason: SWIFT_PARTS,
        ours: true,
    },
    Difference {
        server: "Swift 2.30",
        battery: "names_that_xml_cannot_say_are_kept",
        symptom: "Input/output error",
        reason: UNENCODED,
        ours: true,
    },
    Difference {
        server: "Swift 2.38",
        battery: "names_that_xml_cannot_say_are_kept",
        symptom: "Input/output error",
        reason: UNENCODED,
        ours: true,
    },
    Difference {
        server: "Swift 2.30",
        battery: "what_a_killed_daemon_leaves_is_taken_up",
        symptom: "the uploads' end",
        reason: SWIFT_UPLOADS,
        ours: true,
    },
    Difference {
        server: "Swift 2.38",
        battery: "what_a_killed_daemon_leaves_is_taken_up",
        symptom: "the uploads' end",
        reason: SWIFT_UPLOADS,
        ours: true,
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
        let news = format!(
            "{battery} holds at {} now: the difference can go from the table and the document",
            server.name
        );
        assert!(known.ours, "{news}");
        return say(&news);
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
