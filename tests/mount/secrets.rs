//! No secret where anybody could read it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::scene::Scene;

/// What other processes of the user can see of a process and its descendants.
fn visible(of: u32) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let own = fs::read(format!("/proc/{of}/cmdline")).ok();
    let Ok(processes) = fs::read_dir("/proc") else {
        return seen;
    };
    for entry in processes.flatten() {
        let path = entry.path();
        let parent = fs::read_to_string(path.join("stat")).ok().and_then(|stat| {
            stat.rsplit(") ")
                .next()?
                .split(' ')
                .nth(1)?
                .parse::<u32>()
                .ok()
        });
        let is_child = parent == Some(of);
        // Not before it has become another program: until then it is a copy of the daemon.
        let is_copy = fs::read(path.join("cmdline")).ok() == own;
        let name = entry.file_name();
        if !is_child && name.to_str() != Some(&of.to_string()) {
            continue;
        }
        for file in ["cmdline", "environ"] {
            // The daemon's own environment is what the user started it with.
            if file == "environ" && (!is_child || is_copy) {
                continue;
            }
            if let Ok(text) = fs::read(path.join(file)) {
                seen.insert(String::from_utf8_lossy(&text).into_owned());
            }
        }
        if is_child {
            let child = name.to_str().and_then(|name| name.parse().ok());
            seen.extend(child.map(visible).unwrap_or_default());
        }
    }
    seen
}

#[test]
fn no_secret_is_in_the_log_at_trace_or_in_what_processes_show() {
    let scene = Scene::new();
    scene.bucket.put("f", vec![7; 300_000]);
    let path = scene.mountpoint("mnt");
    let mut command = scene.command();
    // Keys from the environment, which children inherit unless somebody takes care.
    fs::remove_file(scene.home().join(".aws/credentials")).unwrap();
    command
        .env("AWS_ACCESS_KEY_ID", scene.alice.access_key_id())
        .env("AWS_SECRET_ACCESS_KEY", scene.alice.secret_access_key());
    command.args([
        "docs",
        path.to_str().unwrap(),
        "--foreground",
        "--metadata-ttl",
        "0",
    ]);
    command.args(["--log-level", "trace"]);
    let mount = crate::scene::Mount::spawn(command, &path);
    // What starts has them in its environment, for the moment until it has read them.
    scene.pinentry.wait_until_asked(1);
    let looking = Arc::new(AtomicBool::new(true));
    let looker = thread::spawn({
        let (looking, daemon) = (Arc::clone(&looking), mount.pid());
        move || {
            let mut seen = BTreeSet::new();
            while looking.load(Ordering::SeqCst) {
                seen.extend(visible(daemon));
                thread::sleep(std::time::Duration::from_millis(20));
            }
            seen
        }
    });
    // Each dialog is looked at while it is open, whatever the thread has time for.
    let mut seen = visible(mount.pid());
    let mut codes = Vec::new();
    codes.push(scene.device.unspent_code());
    assert!(scene.pinentry.answer(&codes[0]));
    mount.wait_until_mounted();
    assert_eq!(fs::read(mount.file("f")).unwrap().len(), 300_000);
    // The refusal of an expired session echoes its token.
    scene.sandbox.sessions().expire_all();
    let reader = thread::spawn({
        let file = mount.file("f");
        move || fs::read(file)
    });
    scene.pinentry.wait_until_asked(2);
    seen.extend(visible(mount.pid()));
    codes.push("000000".to_owned());
    assert!(scene.pinentry.answer("000000"));
    scene.pinentry.wait_until_asked(3);
    seen.extend(visible(mount.pid()));
    codes.push(scene.device.unspent_code());
    assert!(scene.pinentry.answer(&codes[2]));
    assert_eq!(reader.join().unwrap().unwrap().len(), 300_000);
    let status = scene.control(&["status", "--json"]);
    looking.store(false, Ordering::SeqCst);
    seen.extend(looker.join().unwrap());
    assert!(
        seen.iter().any(|text| text.contains("--prompt-helper")),
        "the helper was looked at"
    );
    assert!(
        seen.iter().any(|text| text.contains("pinentry/pinentry")),
        "and the dialog"
    );

    let mut secrets = vec![
        scene.alice.secret_access_key().to_owned(),
        "Signature=".to_owned(),
    ];
    secrets.extend(codes);
    secrets.extend(scene.sandbox.sessions().secrets());
    assert_eq!(
        secrets.len(),
        2 + 3 + 2 * 2,
        "two sessions, each with a key and a token"
    );
    let log = mount.log();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG") || log.lines().count() > 3,
        "{log}"
    );
    let dialogs = scene.pinentry.log();
    for (place, text) in [("log", &log), ("status", &status.out), ("dialog", &dialogs)]
        .into_iter()
        .chain(seen.iter().map(|text| ("process", text)))
    {
        for secret in &secrets {
            assert!(
                !text.contains(secret.as_str()),
                "{secret:?} is in the {place}:\n{text}"
            );
        }
    }
}

#[test]
fn the_daemons_memory_is_not_for_others_and_not_for_core_dumps() {
    let scene = Scene::new();
    let mount = scene.mount(&[]);
    let owner = std::os::unix::fs::MetadataExt::uid(
        &fs::metadata(format!("/proc/{}/mem", mount.pid())).unwrap(),
    );
    assert_eq!(owner, 0, "not dumpable");
}
