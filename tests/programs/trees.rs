//! mv, rm, find and others that walk.

use s3mfa_sandbox::Kind;

use crate::scene::noise;
use crate::tar::GROW;
use crate::twins::Twins;

#[test]
fn a_tree_is_moved_searched_and_removed() {
    let twins = Twins::new();
    std::fs::write(twins.source().join("noise"), noise(1, 8_000_000)).unwrap();
    twins.run(GROW);
    twins.scene.sandbox.reset_counts();
    twins.run("mv tree moved");
    let counts = twins.scene.sandbox.counts();
    assert!(counts.bytes_received() < 64 << 10, "{}", twins.requests());
    assert_eq!(counts.bytes_served(), 0, "{}", twins.requests());
    twins.assert_same_trees();
    twins.run(
        "mkdir -p deep/er; mv moved deep/er/; mv deep/er/moved/sub here
         mv here/1 here/renamed; mv -n here/2 here/3; mv -f here/4 here/5
         mv here/6 deep; mv deep/er/moved/link .; ls -A here deep",
    );
    twins.assert_same_trees();
    twins
        .run("mv -T here deep/er/moved/empty; mv -T deep/er/moved taken; mkdir full; touch full/x");
    let refused = twins.try_run("mv -T full taken; ls -A full");
    assert_ne!(refused.code, 0);
    assert_ne!(twins.try_run("mv taken taken/below").code, 0);
    assert_ne!(twins.try_run("mv -T full/x taken").code, 0);
    assert_ne!(twins.try_run("mv -T taken full/x").code, 0);
    assert_ne!(twins.try_run("rmdir taken").code, 0);
    twins.assert_same_trees();
    twins.run(
        "find . -printf '%p %y %m %l\\n' | sort
         find . -type f -size +1M
         find . -type d -empty | sort
         find . -name '*.txt' -perm 600
         find . -newermt 2025-01-01 -type f -not -newermt 2031-01-01 | sort | head -3
         find . -type l -xtype l | sort
         du --apparent-size --bytes --total . | tail -n 1 | wc -l
         grep -rl umlaut . ; ls -R | head -20
         find taken -name '1*' -delete; find . -type f -name 2 -exec rm {} +",
    );
    twins.assert_same_trees();
    twins.scene.sandbox.reset_counts();
    twins.run("rm -r taken full deep link; ls -A");
    assert!(
        twins.scene.bucket.keys().is_empty(),
        "{:?}",
        twins.scene.bucket.keys()
    );
    assert_eq!(twins.count(Kind::Get), 0, "{}", twins.requests());
    twins.assert_same_trees();
}
