//! cp and dd.

use s3mfa_sandbox::Kind;

use crate::scene::{noise, parts};
use crate::tar::GROW;
use crate::twins::Twins;

#[test]
fn a_copy_of_a_large_file_is_made_on_the_server() {
    let twins = Twins::new();
    std::fs::write(twins.source().join("large"), noise(3, 64 << 20)).unwrap();
    twins.run("cp ../source/large large.bin; chmod 600 large.bin; sync large.bin");
    twins.scene.sandbox.reset_counts();
    twins.run("cp --reflink=auto large.bin copy.bin");
    let counts = twins.scene.sandbox.counts();
    assert!(
        counts.bytes_received() < 64 << 10 && counts.bytes_served() < 64 << 10,
        "{}",
        twins.requests()
    );
    assert_eq!(
        twins.count(Kind::Copy) + twins.count(Kind::UploadPartCopy),
        1,
        "{}",
        twins.requests()
    );
    twins.run("cmp large.bin copy.bin");
    twins.assert_same_trees();
}

#[test]
fn a_tree_is_copied_with_all_that_belongs_to_it() {
    let mut twins = Twins::new();
    std::fs::write(twins.source().join("noise"), noise(1, 8_000_000)).unwrap();
    twins.run(GROW);
    twins.run("cp -a tree copy; diff -r --no-dereference tree copy");
    twins.run("cp -r tree plain; cp -u tree/a.txt copy/; cp -p tree/sub/4 old; cp -n old copy/a.txt || true");
    twins.assert_same_trees();
    twins.remount();
    twins.assert_same_trees();
}

#[test]
fn extended_attributes_are_copied() {
    let install = "apt-get install attr";
    if !parts::are_here(
        "extended_attributes_are_copied",
        &["setfattr", "getfattr"],
        install,
    ) {
        return;
    }
    let mut twins = Twins::new();
    let mine = "getfattr --dump --match='^user\\.[^s]'";
    twins.run(&format!(
        "echo x >a; setfattr -n user.colour -v red a; setfattr -n user.empty a
         mkdir d; setfattr -n user.of -v directory d
         cp -a a b; cp -a d e; cp a plain; cp --preserve=all a c
         setfattr -x user.colour a
         {mine} a b c d e plain
         getfattr --only-values -n user.none a || true
         mv b ../source/b; {mine} ../source/b; mv ../source/b b
         mv d ../source/d; {mine} ../source/d; mv ../source/d d
         {mine} b d"
    ));
    twins.remount();
    twins.run(&format!("{mine} a b c d e plain"));
    // What S3 knows is told to who asks by name, also of what was stored just now.
    let told = twins.run_on_mount(
        "echo y >new; for name in etag storage-class content-type sse last-modified url; do
             getfattr --only-values -n user.s3.$name new; echo
         done; setfattr -n user.s3.etag -v x new",
    );
    let lines: Vec<_> = told.words.lines().collect();
    let info = twins.scene.bucket.object("new").unwrap();
    assert_eq!(lines[0], info.etag.trim_matches('"'), "{told:?}");
    assert_eq!(
        lines[1..4],
        [&*info.storage_class, &*info.content_type, &*info.encryption]
    );
    assert!(lines[5].ends_with("/docs/new"), "{told:?}");
    assert_ne!(told.code, 0, "{told:?}");
    if parts::are_here(
        "extended_attributes_are_copied",
        &["rsync"],
        "apt-get install rsync",
    ) {
        twins.run(
            "rsync -aX a b d ../source/out/; rsync -aX ../source/out/ in; rm -r ../source/out",
        );
        twins.run(&format!("{mine} in/a in/b in/d"));
    }
}

#[test]
fn dd_writes_into_the_middle() {
    let twins = Twins::new();
    std::fs::write(twins.source().join("large"), noise(4, 40 << 20)).unwrap();
    twins.run("cp ../source/large large");
    twins.scene.sandbox.reset_counts();
    twins.run(
        "dd if=/dev/zero of=large bs=1M seek=20 count=1 conv=notrunc status=none
         cmp --bytes=$((20 << 20)) ../source/large large
         cmp --ignore-initial=$((21 << 20)) ../source/large large
         dd if=large bs=1M skip=20 count=1 status=none | tr -d '\\0' | wc -c",
    );
    let sent = twins.scene.sandbox.counts().bytes_received();
    assert!(sent < 24 << 20, "{}", twins.requests());
    twins.run(
        "dd if=/dev/zero of=sparse bs=1 seek=9999999 count=1 status=none
         dd if=../source/large of=sparse bs=64k seek=3 count=2 conv=notrunc,fsync status=none
         dd if=../source/large of=sparse bs=1k seek=5 count=2 conv=notrunc oflag=append status=none
         sha256sum sparse; stat --format=%s sparse
         dd if=../source/large of=cut bs=1M seek=2 count=1 status=none
         dd if=../source/large of=cut bs=1k seek=1 count=1 status=none
         dd if=../source/large of=direct bs=1M count=3 oflag=sync status=none
         sha256sum cut direct",
    );
    twins.assert_same_trees();
}
