//! What file managers do, through the library that most of them are made with.

use crate::scene::{noise, parts};
use crate::twins::Twins;

const INSTALL: &str = "apt-get install libglib2.0-bin gvfs dbus";

#[test]
fn files_are_copied_moved_renamed_saved_and_removed() {
    let test = "files_are_copied_moved_renamed_saved_and_removed";
    if !parts::are_here(test, &["gio"], INSTALL) {
        return;
    }
    let twins = Twins::new();
    std::fs::write(twins.source().join("large"), noise(5, 20 << 20)).unwrap();
    twins.run(
        "gio copy ../source/large large
         gio copy --preserve large 'a copy'
         gio mkdir --parent folder/below
         gio move 'a copy' folder/
         gio rename 'folder/a copy' größe.bin
         echo first | gio save text.txt
         chmod 640 text.txt
         echo second | gio save text.txt
         echo third | gio save --backup text.txt
         echo kept | gio save --create new.txt
         gio cat text.txt new.txt
         cmp large folder/größe.bin
         gio list folder | sort; gio tree | sort
         gio info --attributes=standard::type,standard::size,standard::content-type,standard::name text.txt | grep -v -E '^(uri|local path|unix mount)'
         gio info --attributes=unix::mode,access::can-write folder | grep -v -E '^(uri|local path|unix mount)'
         gio set -t uint32 text.txt unix::mode 0600 || true
         gio move text.txt new.txt
         gio remove new.txt",
    );
    assert_ne!(twins.try_run("gio remove folder").code, 0);
    assert_ne!(twins.try_run("gio remove nowhere").code, 0);
    assert_ne!(twins.try_run("gio rename large folder").code, 0);
    twins.run("gio remove folder/größe.bin folder/below folder; gio list --hidden | sort");
    twins.assert_same_trees();
}

#[test]
fn what_is_thrown_away_can_be_taken_back() {
    let test = "what_is_thrown_away_can_be_taken_back";
    let daemon = "/usr/libexec/gvfsd-trash";
    if !parts::are_here(test, &["gio", "dbus-run-session", daemon], INSTALL) {
        return;
    }
    let twins = Twins::new();
    let user = nix::unistd::getuid();
    let run = |script: &str| {
        let ran = twins.run_on_mount(script);
        assert_eq!(ran.code, 0, "{script}\n{}", ran.words);
        ran.words
    };
    run("echo precious >a.txt; mkdir d; echo below >d/b; gio trash a.txt d; ls -A");
    let keys = twins.scene.bucket.keys();
    let bin = format!(".Trash-{user}");
    assert!(keys.contains(&format!("{bin}/files/a.txt")), "{keys:?}");
    assert!(
        keys.contains(&format!("{bin}/info/a.txt.trashinfo")),
        "{keys:?}"
    );
    assert!(keys.contains(&format!("{bin}/files/d/b")), "{keys:?}");
    let info = run(&format!(
        "cat {bin}/info/a.txt.trashinfo; stat --format=%a {bin}"
    ));
    assert!(
        info.contains("Path=a.txt\n") && info.ends_with("700\n"),
        "{info}"
    );
    if !parts::is_root(test) {
        return;
    }
    // Where no other mount is to be seen: the daemon looks into all that there are, of other
    // tests as well.
    let alone = |script: &str| {
        std::fs::write(twins.scene.home().join("script"), script).unwrap();
        run(r#"unshare --mount --propagation private bash -euc '
            grep " fuse.s3mfa-mount " /proc/mounts | cut -d " " -f 2 | while read -r mount; do
                # One of another test may be gone by now.
                [ "$mount" = "$PWD" ] || umount --lazy "$mount" || true
            done
            dbus-run-session -- bash -eu ../script 2>/dev/null'"#)
    };
    let listed = alone(
        "gio trash --list
         gio trash --restore $(gio trash --list | grep /a.txt$ | cut -f 1)
         cat a.txt; gio trash --list",
    );
    assert!(listed.contains("DIR/d\n"), "{listed}");
    assert!(listed.contains("DIR/a.txt\n"), "{listed}");
    assert!(listed.contains("\nprecious\n"), "{listed}");
    // The daemon deletes in the background, while the desktop's session lives.
    alone(&format!(
        "gio trash a.txt; gio trash --empty
         while find {bin} -mindepth 2 | grep -q .; do sleep 0.1; done"
    ));
    let keys = twins.scene.bucket.keys();
    assert!(keys.iter().all(|key| key.ends_with('/')), "{keys:?}");
}
