//! The daemon dies: the next mount takes up what it left.

use std::fs::{self, File, OpenOptions};
use std::io::Write;

use crate::place::Place;
use crate::scene::{PATIENCE, holds_within, noise, wait_until};

on_each_server! {
    what_a_killed_daemon_leaves_is_taken_up,
}

/// The one key that starts like this, besides the key itself.
fn beside(place: &Place, start: &str, key: &str) -> Option<String> {
    let mut keys = place.keys();
    keys.retain(|other| other.starts_with(start) && other != key);
    (keys.len() == 1).then(|| keys.remove(0))
}

fn what_a_killed_daemon_leaves_is_taken_up(place: &Place) {
    let large = noise(10, 20 << 20);
    place.put("torn.txt", b"good");
    let back = ["--credentials", "plain", "--write-back"];
    let mount = place.mount_with(&back);
    fs::write(mount.file("small"), "closed").unwrap();
    fs::write(mount.file("large"), &large).unwrap();
    let mut torn = OpenOptions::new()
        .write(true)
        .open(mount.file("torn.txt"))
        .unwrap();
    torn.write_all(b"torn and longer").unwrap();
    let mut new = File::create(mount.file("new")).unwrap();
    new.write_all(&large).unwrap();
    // An upload whose id was never heard of stays in any bucket, until a rule of it cleans up.
    wait_until("the uploads to be known", || {
        let is_stored = || place.sizes(&["large".to_owned()]) == [Some(20 << 20)];
        place.parts("new") > 0 && (place.parts("large") > 0 || is_stored())
    });
    mount.kill();
    drop((torn, new));
    drop(mount);
    let mount = place.mount();
    let closed = ["small", "large"].map(str::to_owned);
    wait_until("the journal", || {
        place.sizes(&closed) == [Some(6), Some(20 << 20)]
            && beside(place, "torn", "torn.txt").is_some()
            && beside(place, "new", "new").is_some()
    });
    assert_eq!(place.get("small"), b"closed");
    assert!(place.get("large") == large);
    assert_eq!(place.get("torn.txt"), b"good");
    let torn = beside(place, "torn", "torn.txt").unwrap();
    assert!(torn.starts_with("torn (recovered "), "{torn}");
    assert_eq!(place.get(&torn), b"torn and longer");
    assert!(place.get(&beside(place, "new", "new").unwrap()) == large);
    assert!(fs::read(mount.file("large")).unwrap() == large);
    let ended = holds_within(PATIENCE, || place.uploads().is_empty());
    assert!(ended, "the uploads' end: {:?}", place.uploads());
}
