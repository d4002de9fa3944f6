//! More names than a page of a listing has.

use std::collections::BTreeSet;
use std::fs;

use crate::place::Place;

on_each_server! {
    names_of_three_pages_are_listed_moved_and_removed,
}

const NAMES: usize = 2500;

/// How many files are made at a time.
const WRITERS: usize = 8;

fn names_of_three_pages_are_listed_moved_and_removed(place: &Place) {
    let mount = place.mount();
    let directory = mount.file("many");
    fs::create_dir(&directory).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let directory = &directory;
            scope.spawn(move || {
                for n in (writer..NAMES).step_by(WRITERS) {
                    fs::write(directory.join(format!("{n:04}.txt")), "x").unwrap();
                }
            });
        }
    });
    drop(mount);
    let names: BTreeSet<_> = (0..NAMES).map(|n| format!("{n:04}.txt")).collect();
    let mount = place.mount();
    let listed = |name: &str| -> BTreeSet<String> {
        fs::read_dir(mount.file(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert!(listed("many") == names, "{} names", listed("many").len());
    fs::rename(mount.file("many"), mount.file("moved")).unwrap();
    assert!(listed("moved") == names, "{} names", listed("moved").len());
    let mut keys: BTreeSet<_> = names.iter().map(|name| format!("moved/{name}")).collect();
    keys.insert("moved/".to_owned());
    assert!(
        place.keys().into_iter().collect::<BTreeSet<_>>() == keys,
        "{} keys",
        place.keys().len()
    );
    fs::remove_dir_all(mount.file("moved")).unwrap();
    assert!(place.keys().is_empty(), "{} keys", place.keys().len());
}
