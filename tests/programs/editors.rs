//! How editors and office programs save.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use s3mfa_sandbox::Kind;

use crate::scene::parts;
use crate::twins::Twins;

#[test]
fn vim_saves_in_each_of_its_ways() {
    if !parts::are_here(
        "vim_saves_in_each_of_its_ways",
        &["vim"],
        "apt-get install vim",
    ) {
        return;
    }
    let twins = Twins::new();
    twins.run("printf 'one\\ntwo\\n' >letter.txt; chmod 640 letter.txt; ln -s letter.txt link");
    for ways in [
        "writebackup backupcopy=auto",
        "writebackup backupcopy=yes",
        "writebackup backupcopy=no",
        "nowritebackup",
        "backup backupext=.orig",
    ] {
        for (file, fsync) in [("letter.txt", "fsync"), ("link", "nofsync")] {
            twins.run(&format!(
                "vim -es -N -u NONE -i NONE -c 'set {ways} {fsync}' -c '%s/$/./' -c wq {file}
                 cat letter.txt; ls -A"
            ));
        }
        twins.assert_same_trees();
    }
    // With a swap file, which is there while it edits.
    twins.run(
        "vim -es -N -u NONE -i NONE -c 'set swapfile directory=. writebackup' -c 'edit new.txt' \
             -c 'normal ihello' -c 'preserve' -c 'write' -c '!ls -A >../seen-$(basename $PWD)' -c quit
         grep -c swp ../seen-*; rm ../seen-*; ls -A; cat new.txt",
    );
    twins.assert_same_trees();
}

#[test]
fn sed_and_its_like_edit_in_place() {
    if !parts::are_here(
        "sed_and_its_like_edit_in_place",
        &["sed", "perl"],
        "apt-get install sed perl",
    ) {
        return;
    }
    let twins = Twins::new();
    twins.run(
        "printf 'one\\ntwo\\n' >a; chmod 604 a
         sed -i 's/one/1/' a; cat a
         sed -i.bak '$d' a; cat a a.bak
         sed -i '/nothing/d' a
         perl -pi -e 's/1/one/' a; cat a
         printf 'b\\na\\n' >s; sort -o s s; cat s
         tee -a a <s
         truncate -s 3 s; cat s; truncate -s +5 s; od -c s
         install -m 640 -D a deep/down/b
         ls -A",
    );
    twins.assert_same_trees();
}

/// What LibreOffice and most others do: a lock file beside, all into a new file, which then takes
/// the name.
#[test]
fn a_save_that_renames_over_the_old_file_replaces_it() {
    let mut twins = Twins::new();
    for version in ["first", "second, and longer", "3rd"] {
        twins.both(|directory| {
            let lock = directory.join(".~lock.report.odt#");
            let temporary = directory.join("lu1234abcd.tmp");
            let report = directory.join("report.odt");
            File::create_new(&lock)
                .unwrap()
                .write_all(b",alice,desk;")
                .unwrap();
            let mode = fs::metadata(&report).map_or(0o640, |old| old.mode());
            let mut file = File::create_new(&temporary).unwrap();
            file.write_all(version.as_bytes()).unwrap();
            file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
                .unwrap();
            file.sync_all().unwrap();
            drop(file);
            // A reader of the old file keeps it.
            let old = fs::read(&report).ok();
            fs::rename(&temporary, &report).unwrap();
            File::open(directory).unwrap().sync_all().unwrap();
            fs::remove_file(&lock).unwrap();
            let size = fs::metadata(&report).unwrap().len();
            (old, size, fs::read_to_string(&report).unwrap())
        });
        let object = twins.scene.bucket.object("report.odt").unwrap();
        assert_eq!(
            object.content_type,
            "application/vnd.oasis.opendocument.text"
        );
    }
    twins.assert_same_trees();
    assert_eq!(twins.scene.bucket.keys(), ["report.odt"]);
    // One PUT for each of the two files, a copy and a delete for the rename, a delete for the lock.
    assert_eq!(twins.count(Kind::Put), 6, "{}", twins.requests());
    assert_eq!(twins.count(Kind::Copy), 3, "{}", twins.requests());
    twins.remount();
    twins.assert_same_trees();
}
