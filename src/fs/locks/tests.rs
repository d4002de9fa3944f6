use std::sync::Arc;
use std::time::Instant;

use super::*;

/// Two mounts of one bucket.
struct Two {
    one: Arc<Locks>,
    other: Arc<Locks>,
    disk: tempfile::TempDir,
}

impl Two {
    fn new() -> Self {
        let disk = tempfile::tempdir().unwrap();
        let mount = || {
            Arc::new(Locks::new(Place {
                directory: Some(disk.path().join("locks")),
                shared: false,
                bucket: "docs".to_owned(),
            }))
        };
        use std::os::unix::fs::PermissionsExt;
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(disk.path(), private).unwrap();
        Self {
            one: mount(),
            other: mount(),
            disk,
        }
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.disk.path().join("locks")).map_or(0, Iterator::count)
    }
}

fn owner(id: u64) -> Owner {
    Owner {
        id,
        handle: id * 10,
        process: 1000 + u32::try_from(id).unwrap(),
    }
}

fn lock(first: u64, last: u64, mode: Mode) -> Lock {
    Lock { first, last, mode }
}

async fn set(locks: &Locks, kind: Kind, id: u64, lock: Lock) -> Result<(), FsError> {
    locks.set(7, kind, Some("f"), owner(id), lock, false).await
}

use Mode::{Exclusive, Shared, Unlocked};

#[tokio::test]
async fn locks_hold_between_mounts_and_within_one() {
    let two = Two::new();
    let held = |outcome: Result<(), FsError>| matches!(outcome, Err(FsError::LockHeld));
    set(&two.one, Kind::Posix, 1, lock(0, 9, Exclusive))
        .await
        .unwrap();
    for locks in [&two.one, &two.other] {
        assert!(held(set(locks, Kind::Posix, 2, lock(5, 20, Shared)).await));
        set(locks, Kind::Posix, 2, lock(10, 20, Shared))
            .await
            .unwrap();
        // The other kind knows nothing of it.
        set(locks, Kind::Flock, 2, lock(0, 9, Shared))
            .await
            .unwrap();
    }
    set(&two.one, Kind::Posix, 1, lock(5, 9, Unlocked))
        .await
        .unwrap();
    set(&two.other, Kind::Posix, 2, lock(5, 9, Exclusive))
        .await
        .unwrap();
    assert!(held(
        set(&two.other, Kind::Posix, 2, lock(4, 4, Shared)).await
    ));
}

#[tokio::test]
async fn who_is_in_the_way_is_told() {
    let two = Two::new();
    set(&two.one, Kind::Posix, 1, lock(3, 5, Exclusive))
        .await
        .unwrap();
    let wanted = lock(0, 100, Shared);
    let ask = |locks: &Locks, id| {
        locks
            .in_the_way(7, Kind::Posix, Some("f"), owner(id), wanted)
            .unwrap()
    };
    assert_eq!(ask(&two.one, 2), Some((lock(3, 5, Exclusive), 1001)));
    assert_eq!(ask(&two.other, 2), Some((lock(3, 5, Exclusive), 0)));
    assert_eq!(ask(&two.one, 1), None, "one's own are not in the way");
}

#[tokio::test]
async fn closing_lets_go_of_what_it_should() {
    let two = Two::new();
    let all = lock(0, i64::MAX as u64, Exclusive);
    set(&two.one, Kind::Posix, 1, all).await.unwrap();
    set(&two.one, Kind::Flock, 2, all).await.unwrap();
    two.one.closed_by(7, 2);
    assert!(
        set(&two.other, Kind::Flock, 3, all).await.is_err(),
        "of flock(2) it is the last close"
    );
    two.one.closed_by(7, 1);
    set(&two.other, Kind::Posix, 3, all).await.unwrap();
    two.one.close(20);
    set(&two.other, Kind::Flock, 3, all).await.unwrap();
    two.other.close(30);
    assert_eq!(two.files(), 0, "nobody needs them");
}

#[tokio::test]
async fn who_waits_gets_it_at_once_when_it_is_free() {
    let two = Two::new();
    let all = lock(0, i64::MAX as u64, Exclusive);
    for free in [Two::close_first, Two::unlock_first] {
        set(&two.one, Kind::Flock, 1, all).await.unwrap();
        for waiting in [&two.one, &two.other] {
            let locks = Arc::clone(waiting);
            let task = tokio::spawn(async move {
                locks
                    .set(7, Kind::Flock, Some("f"), owner(2), all, true)
                    .await?;
                let had = Instant::now();
                locks.close(20);
                Ok::<_, FsError>(had)
            });
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(!task.is_finished());
            let freed = Instant::now();
            free(&two).await;
            let had = task.await.unwrap().unwrap();
            assert!(had - freed < RETRY / 2, "{:?}", had - freed);
            set(&two.one, Kind::Flock, 1, all).await.unwrap();
        }
        two.one.close(10);
    }
}

impl Two {
    fn close_first(&self) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(async { self.one.close(10) })
    }

    fn unlock_first(&self) -> futures_util::future::BoxFuture<'_, ()> {
        let none = lock(0, i64::MAX as u64, Unlocked);
        Box::pin(async move { set(&self.one, Kind::Flock, 1, none).await.unwrap() })
    }
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_nothing() {
    let two = Two::new();
    let all = lock(0, i64::MAX as u64, Exclusive);
    set(&two.one, Kind::Posix, 1, all).await.unwrap();
    let waiting = two
        .other
        .set(7, Kind::Posix, Some("f"), owner(2), all, true);
    let gave_up = tokio::time::timeout(Duration::from_millis(50), waiting).await;
    assert!(gave_up.is_err());
    two.one.closed_by(7, 1);
    set(&two.one, Kind::Posix, 3, all).await.unwrap();
    two.one.closed_by(7, 3);
    assert_eq!(two.files(), 0);
}

#[tokio::test]
async fn a_name_that_is_taken_again_begins_anew_and_a_renamed_file_keeps_its_locks() {
    let two = Two::new();
    let all = lock(0, i64::MAX as u64, Exclusive);
    set(&two.one, Kind::Flock, 1, all).await.unwrap();
    two.one.renamed(7, "f", "g");
    let other = |key| {
        two.other
            .set(8, Kind::Flock, Some(key), owner(2), all, false)
    };
    assert!(other("g").await.is_err());
    other("f").await.unwrap();
    two.other.close(20);
    two.one.forget_name("g");
    other("g").await.unwrap();
}

#[tokio::test]
async fn what_dead_daemons_have_left_is_swept() {
    let two = Two::new();
    let all = lock(0, i64::MAX as u64, Exclusive);
    set(&two.one, Kind::Flock, 1, all).await.unwrap();
    let left = two.disk.path().join("locks/left.posix");
    std::fs::write(&left, "").unwrap();
    file::sweep(&two.disk.path().join("locks"));
    assert_eq!(two.files(), 1, "the one that is in use");
}

#[tokio::test]
async fn two_who_share_a_file_and_want_it_alone_do_not_wait_for_each_other() {
    let two = Two::new();
    let all = |mode| lock(0, u64::MAX, mode);
    for (locks, id) in [(&two.one, 1), (&two.other, 2)] {
        set(locks, Kind::Flock, id, all(Shared)).await.unwrap();
    }
    // The first one gets nothing, and has nothing any more: flock(2).
    let first = set(&two.one, Kind::Flock, 1, all(Exclusive)).await;
    assert!(matches!(first, Err(FsError::LockHeld)), "{first:?}");
    set(&two.other, Kind::Flock, 2, all(Exclusive))
        .await
        .unwrap();
}
