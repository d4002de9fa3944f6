//! restic and borg: a repository on the mount.

use crate::scene::{noise, parts};
use crate::twins::Twins;

/// A tree to be kept, outside of both sides.
fn grow(twins: &Twins) {
    let tree = twins.source().join("tree");
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    std::fs::write(tree.join("large"), noise(21, 6_000_000)).unwrap();
    std::os::unix::fs::symlink("large", tree.join("link")).unwrap();
    for n in 0..40 {
        std::fs::write(tree.join(format!("sub/{n}")), format!("file {n}\n")).unwrap();
    }
}

#[test]
fn restic_keeps_checks_and_restores() {
    let test = "restic_keeps_checks_and_restores";
    if !parts::are_here(test, &["restic"], "apt-get install restic") {
        return;
    }
    let mut twins = Twins::new();
    grow(&twins);
    let settings = "
        export RESTIC_PASSWORD=secret; repo=$PWD/repo
        restic() { command restic --quiet --no-cache --repo \"$repo\" \"$@\"; }";
    twins.run_through_an_end(
        12,
        &format!(
            "{settings}
            restic init; (cd ../source; restic backup tree)
            restic check --read-data
            restic snapshots --json | grep -o short_id | wc -l"
        ),
    );
    twins.remount();
    twins.run_through_an_end(
        12,
        &format!(
            "{settings}
            (cd ../source; restic backup tree/sub); restic forget --keep-last 1 --prune 2>/dev/null
            restic check
            restic restore latest --path \"$(realpath ../source/tree)\" --target out
            diff -r --no-dereference ../source/tree out/tree; ls out"
        ),
    );
    twins.assert_same_trees_but(&|path| path == "out" || path.starts_with("out/"));
}

#[test]
fn borg_keeps_checks_and_extracts() {
    let test = "borg_keeps_checks_and_extracts";
    if !parts::are_here(test, &["borg"], "apt-get install borgbackup") {
        return;
    }
    let mut twins = Twins::new();
    grow(&twins);
    // Each side knows its own repository, as each user would.
    let settings = "
        export BORG_BASE_DIR=$PWD/../source/borg-$(basename \"$PWD\")
        export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
        # It would like a hard link, says so, and goes on.
        borg() { command borg \"$@\" 2>&1 | sed '/hardlinks not supported/d'; }";
    twins.run_through_an_end(
        12,
        &format!(
            "{settings}
            borg init --encryption=none repo
            cd ../source; borg create \"$OLDPWD/repo::one\" tree; borg create \"$OLDPWD/repo::two\" tree/sub
            borg list --short \"$OLDPWD/repo\"; borg check --verify-data \"$OLDPWD/repo\""
        ),
    );
    twins.remount();
    twins.run_through_an_end(
        12,
        &format!(
            "{settings}
            mkdir out; cd out; borg extract ../repo::one; diff -r --no-dereference ../../source/tree tree
            cd ..; borg delete repo::one; borg compact repo; borg check repo; borg list --short repo"
        ),
    );
    twins.assert_same_trees_but(&|path| path == "out" || path.starts_with("out/"));
}
