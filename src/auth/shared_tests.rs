use std::os::unix::fs::PermissionsExt;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000)
}

/// A session of this key that ends in so many seconds.
fn kept(id: &str, seconds: u32) -> Kept {
    let keys = Credentials::new(id, "secret", Some("token".to_owned()), None, "test");
    Kept::new(&keys, Some(now() + SECOND * seconds), now())
}

/// The same slot as two programs see it, in a directory, and the directory.
fn two() -> (Slot, Slot, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let slot = || Shelf::new(Some(home.path().join("run"))).slot(&["session-token", "aws", "AKIA"]);
    (slot(), slot(), home)
}

fn session(found: Found) -> Option<String> {
    match found {
        Found::Session(kept) => Some(kept.access_key_id),
        Found::Refusal(_) | Found::Nothing => None,
    }
}

#[test]
fn what_one_program_leaves_another_finds() {
    let (one, two, home) = two();
    assert_eq!(session(two.look(&Wanted::default(), now())), None);
    one.leave(&kept("ASIA1", 3600));
    let found = two.look(&Wanted::default(), now());
    assert_eq!(session(found).as_deref(), Some("ASIA1"));
    // Nobody else reads it.
    let directory = home.path().join("run");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in std::fs::read_dir(directory).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    one.forget();
    assert_eq!(session(two.look(&Wanted::default(), now())), None);
}

#[test]
fn a_session_that_ends_was_refused_or_is_too_old_will_not_do() {
    let (one, two, _home) = two();
    one.leave(&kept("ASIA1", 60));
    assert!(session(two.look(&Wanted::default(), now() + 57 * SECOND)).is_some());
    assert!(session(two.look(&Wanted::default(), now() + 59 * SECOND)).is_none());
    let rejected = Wanted {
        rejected: Some("ASIA1".to_owned()),
        ..Wanted::default()
    };
    assert!(session(two.look(&rejected, now())).is_none());
    let after = |after| Wanted {
        after: Some(after),
        ..Wanted::default()
    };
    assert!(session(two.look(&after(now()), now())).is_none());
    assert!(session(two.look(&after(now() - SECOND), now())).is_some());
}

#[test]
fn a_refusal_answers_those_who_waited_and_quiets_those_who_come_later() {
    let (one, two, _home) = two();
    one.refuse(&AuthError::Cancelled, 60 * SECOND, now());
    let waited = Wanted {
        since: Some(now() - SECOND),
        ..Wanted::default()
    };
    let came_later = Wanted {
        since: Some(now() + SECOND),
        ..Wanted::default()
    };
    let later = now() + SECOND;
    let heard = two.look(&waited, later);
    assert!(matches!(heard, Found::Refusal(AuthError::Cancelled)));
    let heard = two.look(&came_later, later);
    assert!(matches!(
        heard,
        Found::Refusal(AuthError::CoolingDown { .. })
    ));
    let heard = two.look(&came_later, now() + 61 * SECOND);
    assert!(matches!(heard, Found::Nothing));
    // A person at the controls is asked at once.
    let insists = Wanted {
        insists: true,
        ..came_later.clone()
    };
    assert!(matches!(two.look(&insists, later), Found::Nothing));
    // The second refusal in a row lasts longer, and a session ends it all.
    one.refuse(&AuthError::TimedOut, 60 * SECOND, later);
    let heard = two.look(&came_later, later + 100 * SECOND);
    assert!(matches!(heard, Found::Refusal(_)));
    one.leave(&kept("ASIA2", 3600));
    assert!(session(two.look(&came_later, later)).is_some());
    one.forget();
    assert!(matches!(two.look(&came_later, later), Found::Nothing));
}

#[test]
fn what_a_machine_refuses_is_not_told_to_others() {
    let (one, two, _home) = two();
    let error = AuthError::Unreachable {
        timed_out: true,
        message: "no network".to_owned(),
    };
    one.refuse(&error, 60 * SECOND, now());
    one.refuse(
        &AuthError::NoPrompt("no display".to_owned()),
        60 * SECOND,
        now(),
    );
    assert!(matches!(
        two.look(&Wanted::default(), now()),
        Found::Nothing
    ));
}

#[test]
fn a_lease_has_one_owner_and_ends_with_it() {
    let (one, two, _home) = two();
    let lease = one.try_lease().unwrap();
    assert!(two.try_lease().is_none());
    drop(lease);
    assert!(two.try_lease().is_some());
}

#[tokio::test]
async fn who_waits_for_a_lease_takes_what_its_owner_leaves() {
    let (one, two, _home) = two();
    let lease = one.try_lease().unwrap();
    let wanted = Wanted {
        since: Some(now()),
        ..Wanted::default()
    };
    let waiting = tokio::spawn(async move { two.lease_or_find(&wanted, now).await });
    one.leave(&kept("ASIA1", 3600));
    let found = waiting.await.unwrap().unwrap_err();
    assert_eq!(session(found).as_deref(), Some("ASIA1"));
    drop(lease);
}

#[test]
fn a_file_of_another_version_or_none_at_all_is_nothing() {
    let (one, two, home) = two();
    one.leave(&kept("ASIA1", 3600));
    let path = home.path().join("run").join(one.file());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"version\":1", "\"version\":2")).unwrap();
    assert!(session(two.look(&Wanted::default(), now())).is_none());
    std::fs::write(&path, "{").unwrap();
    assert!(session(two.look(&Wanted::default(), now())).is_none());
}

#[test]
fn a_directory_that_others_can_enter_is_not_used() {
    let home = tempfile::tempdir().unwrap();
    let open = home.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    let slot = Shelf::new(Some(open.clone())).slot(&["x"]);
    slot.leave(&kept("ASIA1", 3600));
    assert_eq!(std::fs::read_dir(open).unwrap().count(), 0);
    // It is kept for this process all the same.
    assert!(session(slot.look(&Wanted::default(), now())).is_some());
}
