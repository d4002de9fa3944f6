//! A mount that outlives its session.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use s3mfa_sandbox::{ExpiryStyle, policies};
use sha2::{Digest, Sha256};

use crate::scene::{Scene, errno, noise};

/// The seed of this run: `S3MFA_SEED` to repeat one.
fn seed() -> u64 {
    let given = std::env::var("S3MFA_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::from(now.unwrap().subsec_nanos())
    });
    eprintln!("seed {seed}: repeat with S3MFA_SEED={seed}");
    seed
}

fn digest(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().to_vec()),
            length => hash.update(&buffer[..length]),
        }
    }
}

#[test]
fn a_sequential_reader_of_200_mb_never_notices() {
    let seed = seed();
    let scene = Scene::new();
    let size = 200_000_000;
    let content = noise(seed, size);
    scene.bucket.put("big", content.clone());
    let mount = scene.mount(&[]);
    scene
        .sandbox
        .faults()
        .expire_after_bytes(seed % (size as u64 * 9 / 10));
    let device = scene.device.clone();
    let answering = scene
        .pinentry
        .answer_after(Duration::ZERO, move || device.unspent_code());
    assert!(digest(&mount.file("big")).unwrap() == Sha256::digest(&content).to_vec());
    answering.join().unwrap();
    assert_eq!(
        scene.pinentry.asked(),
        2,
        "the first login, and one for the expiry"
    );
}

/// 300 readers of different files, and a person who takes a while.
fn concurrent_readers(pause: Duration) {
    let seed = seed();
    let scene = Scene::new();
    let size = 300_000;
    for i in 0..300 {
        scene
            .bucket
            .put(&format!("dir/f{i}"), noise(seed + i, size));
    }
    let mount = scene.mount(&[]);
    scene
        .sandbox
        .faults()
        .expire_after_bytes(seed % (300 * size as u64 / 2));
    let device = scene.device.clone();
    let answering = scene
        .pinentry
        .answer_after(pause, move || device.unspent_code());
    let readers: Vec<_> = (0..300)
        .map(|i| {
            let path = mount.file(&format!("dir/f{i}"));
            thread::spawn(move || fs::read(path).map(|bytes| bytes == noise(seed + i, size)))
        })
        .collect();
    for (i, reader) in readers.into_iter().enumerate() {
        assert!(reader.join().unwrap().unwrap(), "file {i}");
    }
    answering.join().unwrap();
    assert_eq!(scene.pinentry.asked(), 2);
    let replayed = mount.status(&scene)["requests"]["replayed"]
        .as_u64()
        .unwrap();
    eprintln!("{replayed} requests were sent again");
}

#[test]
fn three_hundred_concurrent_readers_wait_for_one_prompt() {
    concurrent_readers(Duration::ZERO);
}

#[test]
fn they_wait_for_a_person_who_takes_forty_seconds_too() {
    concurrent_readers(Duration::from_secs(40));
}

#[test]
fn every_way_to_say_expired_leads_to_one_prompt_and_success() {
    let styles = [
        ExpiryStyle::Expired400,
        ExpiryStyle::Expired403,
        ExpiryStyle::AccessDenied403,
        ExpiryStyle::AccessDeniedException403,
        ExpiryStyle::BareHead400,
        ExpiryStyle::BareHead403,
    ];
    let scene = Scene::new();
    for i in 0..styles.len() {
        scene.bucket.put(&format!("f{i}"), format!("content {i}"));
    }
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    assert!(mount.file("f0").exists());
    for (i, style) in styles.into_iter().enumerate() {
        scene.sandbox.expiry_style(style);
        scene.sandbox.sessions().expire_all();
        let answering = scene.pinentry.answer_next(scene.device.unspent_code());
        let content = fs::read_to_string(mount.file(&format!("f{i}"))).unwrap();
        assert_eq!(content, format!("content {i}"), "{style:?}");
        answering.join().unwrap();
        assert_eq!(scene.pinentry.asked(), i + 2, "{style:?}");
    }
}

#[test]
fn a_policy_with_an_age_limit_asks_once_an_hour() {
    let scene = Scene::new();
    scene
        .bucket
        .set_policy(policies::require_fresh_mfa("docs", 3600))
        .unwrap();
    scene.bucket.put("f", "content");
    let mount = scene.mount(&["--metadata-ttl", "0"]);
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    scene.sandbox.clock().advance(Duration::from_secs(3601));
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    answering.join().unwrap();
    assert_eq!(scene.pinentry.asked(), 2);
}

#[test]
fn a_real_denial_is_eacces_and_asks_nobody() {
    let scene = Scene::new();
    let deny = [
        policies::require_mfa_null_age("docs"),
        policies::deny_get_on_prefix("docs", "secret/"),
    ];
    scene.bucket.set_policy(policies::merge(&deny)).unwrap();
    scene.bucket.put("secret/f", "secret");
    scene.bucket.put("open", "open");
    let mount = scene.mount(&[]);
    // The name and the size are in the listing, which is allowed.
    assert_eq!(fs::metadata(mount.file("secret/f")).unwrap().len(), 6);
    assert_eq!(errno(fs::read(mount.file("secret/f"))), libc::EACCES);
    assert_eq!(fs::read_to_string(mount.file("open")).unwrap(), "open");
    assert_eq!(errno(fs::read(mount.file("secret/f"))), libc::EACCES);
    assert_eq!(scene.pinentry.asked(), 1);
}

#[test]
fn a_session_that_ends_by_the_clock_is_renewed_without_asking_s3_first() {
    let scene = Scene::new();
    scene
        .sandbox
        .sessions()
        .set_max_session(Duration::from_secs(6));
    scene.bucket.put("f", "content");
    let mount = scene.mount(&[]);
    let start = Instant::now();
    crate::scene::wait_until("the expiry", || {
        mount.status(&scene)["session"]["state"] == "locked"
    });
    assert!(start.elapsed() < Duration::from_secs(20));
    scene.sandbox.reset_counts();
    let answering = scene.pinentry.answer_next(scene.device.unspent_code());
    assert_eq!(fs::read_to_string(mount.file("f")).unwrap(), "content");
    answering.join().unwrap();
    assert_eq!(scene.sandbox.counts().with_code("ExpiredToken"), 0);
    assert!(
        scene
            .pinentry
            .last("SETDESC")
            .unwrap()
            .contains("expired at")
    );
}
