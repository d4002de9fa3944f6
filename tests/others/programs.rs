//! Programs at work on a mount.

use crate::place::Place;
use crate::scene::parts;

on_each_server! {
    git_keeps_a_repository,
    sqlite_keeps_a_database,
    tar_brings_a_tree_there_and_back,
}

fn git_keeps_a_repository(place: &Place) {
    if !parts::are_here("git_keeps_a_repository", &["git"], "apt-get install git") {
        return;
    }
    let settings = "
        export GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat GIT_MERGE_AUTOEDIT=no
        export GIT_AUTHOR_NAME=Alice GIT_AUTHOR_EMAIL=alice@example.com
        export GIT_COMMITTER_NAME=Alice GIT_COMMITTER_EMAIL=alice@example.com";
    let mount = place.mount();
    place.shell(
        &mount,
        &format!(
            "{settings}
            git init --quiet --initial-branch=main repo; cd repo
            for n in $(seq 10); do echo \"line $n\" >$n.txt; done; ln -s 1.txt link
            git add --all; git commit --quiet --message=one
            git checkout --quiet -b side; echo more >>1.txt; git rm --quiet 2.txt
            git commit --quiet --all --message=side
            git checkout --quiet main; echo other >>4.txt
            git commit --quiet --all --message=main; git merge --quiet side
            git gc --quiet --prune=now; git fsck --full --strict
            [ -z \"$(git status --porcelain)\" ]"
        ),
    );
    drop(mount);
    let mount = place.mount();
    let words = place.shell(
        &mount,
        &format!(
            "{settings}
            git -C repo status --porcelain; git clone --quiet repo ../copy
            git -C ../copy fsck --full; git -C ../copy log --format=%s | wc -l; cat ../copy/link"
        ),
    );
    assert_eq!(words, "4\nline 1\nmore\n");
}

fn sqlite_keeps_a_database(place: &Place) {
    let install = "apt-get install sqlite3";
    if !parts::are_here("sqlite_keeps_a_database", &["sqlite3"], install) {
        return;
    }
    let mount = place.mount();
    for journal in ["delete", "wal"] {
        let words = place.shell(
            &mount,
            &format!(
                "sqlite3 {journal}.db 'PRAGMA journal_mode={journal};
                     CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);'
                 sqlite3 {journal}.db 'CREATE INDEX i ON t(b);
                     WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3000)
                     INSERT INTO t SELECT x, hex(x) FROM c;'
                 sqlite3 {journal}.db 'BEGIN; DELETE FROM t; ROLLBACK; DELETE FROM t WHERE a % 3 = 0;'
                 sqlite3 {journal}.db 'VACUUM; SELECT count(*) FROM t; PRAGMA integrity_check;'"
            ),
        );
        assert_eq!(words, format!("{journal}\n2000\nok\n"));
    }
    drop(mount);
    let mount = place.mount();
    let words = place.shell(
        &mount,
        "for file in delete wal; do
             sqlite3 $file.db 'SELECT sum(a) FROM t; PRAGMA integrity_check;'
         done; ls",
    );
    // Of the numbers to 3,000 a third is gone.
    assert_eq!(words, "3000000\nok\n3000000\nok\ndelete.db\nwal.db\n");
}

fn tar_brings_a_tree_there_and_back(place: &Place) {
    let install = "apt-get install tar";
    if !parts::are_here("tar_brings_a_tree_there_and_back", &["tar"], install) {
        return;
    }
    let mut mount = place.mount();
    place.shell(
        &mount,
        "(mkdir ../grow; cd ../grow; mkdir -p tree/sub/deeper tree/empty 'tree/with space'
          echo text >tree/a.txt; : >tree/nothing; head -c 3000000 /dev/urandom >tree/big.bin
          for n in $(seq 10); do echo $n >tree/sub/$n; done
          echo blank >'tree/with space/a file'; ln -s a.txt tree/link; ln -s ../no tree/sub/dangling
          chmod 600 tree/a.txt; chmod 4755 tree/sub/1; chmod 700 tree/empty
          find tree -depth -exec touch -h -d '2020-02-02 02:02:02' {} +
          tar --create --sort=name --file=../first.tar tree)
         tar --extract --preserve-permissions --file=../first.tar
         tar --compare --file=../first.tar",
    );
    // In an orderly way, so that the next one knows the attributes, which listings do not tell.
    mount.signal(libc::SIGTERM);
    assert!(mount.wait().success(), "{}", mount.log());
    let mount = place.mount();
    place.shell(
        &mount,
        "tar --create --sort=name --file=../second.tar tree
         tar --compare --file=../first.tar
         cmp ../first.tar ../second.tar
         rm -r tree; [ -z \"$(ls -A)\" ]",
    );
}
