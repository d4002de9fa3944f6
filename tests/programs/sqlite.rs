//! sqlite3.

use crate::scene::parts;
use crate::twins::Twins;

const INSTALL: &str = "apt-get install sqlite3";

#[test]
fn a_database_is_filled_and_asked() {
    if !parts::are_here("a_database_is_filled_and_asked", &["sqlite3"], INSTALL) {
        return;
    }
    let mut twins = Twins::new();
    twins.run(
        "sqlite3 base.db 'PRAGMA journal_mode; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);'
         sqlite3 base.db \"INSERT INTO t VALUES (1, 'one'), (2, 'two');\"
         for n in 3 4 5; do sqlite3 base.db \"INSERT INTO t VALUES ($n, 'n$n');\"; done
         sqlite3 base.db 'SELECT * FROM t; PRAGMA integrity_check;'
         sqlite3 base.db 'BEGIN; DELETE FROM t; ROLLBACK; SELECT count(*) FROM t;'
         sqlite3 base.db \"
             CREATE INDEX i ON t(b);
             WITH RECURSIVE c(x) AS (SELECT 10 UNION ALL SELECT x + 1 FROM c WHERE x < 5000)
             INSERT INTO t SELECT x, 'x' || x FROM c;
             UPDATE t SET b = b || '!' WHERE a % 7 = 0;
             DELETE FROM t WHERE a % 5 = 0;\"
         sqlite3 base.db 'SELECT count(*), sum(length(b)) FROM t; VACUUM; PRAGMA integrity_check;'
         sqlite3 base.db .dump | sha256sum
         ls; stat --format='%s %a' base.db",
    );
    twins.remount();
    twins.run("sqlite3 base.db 'PRAGMA integrity_check;'; sqlite3 base.db .dump | sha256sum");
}

#[test]
fn a_database_with_a_write_ahead_log() {
    if !parts::are_here("a_database_with_a_write_ahead_log", &["sqlite3"], INSTALL) {
        return;
    }
    let twins = Twins::new();
    twins.run(
        "sqlite3 base.db 'PRAGMA journal_mode=wal; CREATE TABLE t(a); INSERT INTO t VALUES (1);'
         sqlite3 base.db 'INSERT INTO t VALUES (2); SELECT sum(a) FROM t; PRAGMA journal_mode;'
         sqlite3 base.db '.open base.db' 'INSERT INTO t VALUES (3);' '.shell ls' \
             'SELECT sum(a) FROM t;' 'PRAGMA wal_checkpoint(TRUNCATE);'
         sqlite3 base.db 'SELECT sum(a) FROM t; PRAGMA integrity_check;'
         ls",
    );
}

#[test]
fn two_programs_at_one_database_wait_for_each_other() {
    let test = "two_programs_at_one_database_wait_for_each_other";
    if !parts::are_here(test, &["sqlite3"], INSTALL) {
        return;
    }
    let twins = Twins::new();
    twins.run(
        "sqlite3 base.db 'CREATE TABLE t(a);'
         fill() { for n in $(seq 5); do sqlite3 -cmd '.timeout 60000' base.db 'INSERT INTO t VALUES (1);'; done; }
         fill & fill & wait
         sqlite3 base.db 'SELECT sum(a) FROM t; PRAGMA integrity_check;'",
    );
}
