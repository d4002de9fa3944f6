//! Names that URLs, signatures, shells and XML trip over.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::place::Place;
use crate::scene::Mount;

on_each_server! {
    odd_names_are_kept,
    a_backslash_is_kept,
    names_that_xml_cannot_say_are_kept,
}

/// Names that any text may have in it.
const ODD: [&str; 35] = [
    " before",
    "after ",
    "two  spaces",
    "plus+and space",
    "a%20b",
    "a%2Fb",
    "100%",
    "%00",
    "a&amp;b",
    "a&b=c",
    "<name>",
    "]]>",
    "\"quoted\"",
    "it's",
    "`tick`",
    "$(command)",
    "?acl",
    "hash#tag",
    "semi;colon",
    "colon:at@",
    "comma,star*",
    "pipe|caret^",
    "{brace}[bracket]",
    "~tilde",
    "-rf",
    ".hidden",
    "...",
    "null",
    "composed \u{e9}",
    "decomposed e\u{301}",
    "\u{1f980}",
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
    "mark\u{feff}",
    "separator\u{2028}",
    "_$folder$",
];

/// Names with characters that XML 1.0 has no way to write, or that its readers change.
const UNSPEAKABLE: [&str; 9] = [
    "tab\there",
    "new\nline",
    "return\rhere",
    "bell\u{7}",
    "escape\u{1b}[31m",
    "delete\u{7f}",
    "next\u{85}line",
    "non\u{fffe}",
    "non\u{ffff}",
];

fn odd_names_are_kept(place: &Place) {
    // As long as a name can be.
    let long = "\u{e4}".repeat(127) + "x";
    let names: Vec<_> = ODD.iter().copied().chain([&*long]).collect();
    are_kept(place, &names);
}

fn a_backslash_is_kept(place: &Place) {
    are_kept(place, &["back\\slash"]);
}

fn names_that_xml_cannot_say_are_kept(place: &Place) {
    are_kept(place, &UNSPEAKABLE);
}

/// Fails if a directory shows other names, or one of them has other bytes.
fn holds(mount: &Mount, directory: &str, names: &[&str]) {
    let listed: BTreeSet<_> = fs::read_dir(mount.file(directory))
        .unwrap_or_else(|error| panic!("listing {directory:?}: {error}\n{}", mount.log()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed, names.iter().map(|&name| name.to_owned()).collect());
    for name in names {
        let path = Path::new(directory).join(name);
        let found = fs::read(mount.path().join(path));
        let found = found.unwrap_or_else(|error| panic!("{name:?}: {error}\n{}", mount.log()));
        assert_eq!(found, name.as_bytes(), "{name:?}");
    }
}

/// Files of these names are written, listed by another mount, moved with their directory, and
/// removed; and a directory of each name holds a file.
fn are_kept(place: &Place, names: &[&str]) {
    let (first, second) = ("all + of 'em", "all & <more>");
    {
        let mut mount = place.mount();
        fs::create_dir(mount.file(first)).unwrap();
        for name in names {
            fs::write(mount.file(first).join(name), name)
                .unwrap_or_else(|error| panic!("writing {name:?}: {error}\n{}", mount.log()));
        }
        let keys: Vec<_> = names.iter().map(|name| format!("{first}/{name}")).collect();
        let sizes: Vec<_> = names.iter().map(|name| Some(name.len() as u64)).collect();
        assert_eq!(
            place.sizes(&keys),
            sizes,
            "under the names that they have here"
        );
        mount.signal(libc::SIGTERM);
        assert!(mount.wait().success(), "{}", mount.log());
    }
    let mount = place.mount();
    holds(&mount, first, names);
    fs::rename(mount.file(first), mount.file(second))
        .unwrap_or_else(|error| panic!("renaming the directory: {error}\n{}", mount.log()));
    holds(&mount, second, names);
    for name in names {
        let removed = fs::remove_file(mount.file(second).join(name));
        removed.unwrap_or_else(|error| panic!("removing {name:?}: {error}\n{}", mount.log()));
    }
    fs::remove_dir(mount.file(second)).unwrap();
    for name in names {
        fs::create_dir(mount.file(name)).unwrap();
        fs::write(mount.file(name).join(name), name)
            .unwrap_or_else(|error| panic!("in {name:?}: {error}\n{}", mount.log()));
    }
    drop(mount);
    let mount = place.mount();
    for name in names {
        holds(&mount, name, &[name]);
    }
    for name in names {
        let removed = fs::remove_dir_all(mount.file(name));
        removed.unwrap_or_else(|error| panic!("removing {name:?}: {error}\n{}", mount.log()));
    }
    assert!(place.keys().is_empty(), "{:?}", place.keys());
}
