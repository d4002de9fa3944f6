//! rsync.

use s3mfa_sandbox::Kind;

use crate::scene::{noise, parts};
use crate::tar::GROW;
use crate::twins::Twins;

/// How many files there are in the largest directory.
const FILES: u64 = 200;

#[test]
fn a_second_rsync_copies_nothing_also_after_a_remount() {
    let test = "a_second_rsync_copies_nothing_also_after_a_remount";
    if !parts::are_here(test, &["rsync"], "apt-get install rsync") {
        return;
    }
    let mut twins = Twins::new();
    std::fs::write(twins.source().join("noise"), noise(1, 8_000_000)).unwrap();
    // The source is outside, and the same for both.
    let grown = std::process::Command::new("bash")
        .args(["-euc", GROW])
        .current_dir(twins.scene.home().join("source"))
        .status();
    assert!(grown.unwrap().success());
    std::fs::create_dir(twins.source().join("tree/many")).unwrap();
    for n in 0..FILES {
        std::fs::write(twins.source().join(format!("tree/many/{n}")), "x").unwrap();
    }

    twins.run("rsync -a ../source/tree/ copy/");
    twins.assert_same_trees();
    let nothing = |twins: &Twins, when: &str| {
        twins.scene.sandbox.reset_counts();
        let words = twins.run("rsync -ai ../source/tree/ copy/");
        assert_eq!(words, "", "{when}");
        let counts = twins.scene.sandbox.counts();
        assert_eq!(counts.writes(), 0, "{when}: {}", twins.requests());
        // A handful for each directory is fine, one for each file is not.
        assert!(
            twins.count(Kind::Head) < FILES / 4,
            "{when}: {}",
            twins.requests()
        );
        assert!(counts.total() < FILES / 2, "{when}: {}", twins.requests());
    };
    nothing(&twins, "at once");
    twins.remount();
    nothing(&twins, "after a remount");
    twins.assert_same_trees();

    // What has changed is copied, and nothing else.
    let changed = "echo changed >../source/tree/sub/7
         touch -d '2021-01-01' ../source/tree/sub/7
         rm -f ../source/tree/sub/8
         chmod 640 ../source/tree/sub/9
         rsync -ai --delete ../source/tree/ copy/";
    twins.scene.sandbox.reset_counts();
    // The second side finds the source as the first has left it.
    let words = twins.run(changed);
    assert_eq!(words.lines().count(), 4, "{words}");
    twins.assert_same_trees();
    // And back.
    twins.run("rsync -a copy/ ../back/; rsync -aic ../source/tree/ ../back/; rm -r ../back");
}

#[test]
fn rsync_changes_a_large_file_in_place() {
    let test = "rsync_changes_a_large_file_in_place";
    if !parts::are_here(test, &["rsync"], "apt-get install rsync") {
        return;
    }
    let twins = Twins::new();
    let source = twins.source().join("large");
    let mut bytes = noise(2, 40 << 20);
    std::fs::write(&source, &bytes).unwrap();
    twins.run("rsync -a ../source/large large");
    bytes[20 << 20..(20 << 20) + 10].copy_from_slice(b"0123456789");
    std::fs::write(&source, &bytes).unwrap();
    twins.scene.sandbox.reset_counts();
    twins.run("rsync -a --inplace --no-whole-file ../source/large large");
    twins.assert_same_trees();
    let sent = twins.scene.sandbox.counts().bytes_received();
    assert!(sent < 24 << 20, "{}", twins.requests());
}
