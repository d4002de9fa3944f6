//! PostgreSQL.

use crate::scene::parts;
use crate::twins::Twins;

/// Its programs are where only Debian's wrappers look. They refuse to run as root: in a namespace
/// of users root is somebody else, and is root to the mount.
const SETTINGS: &str = "
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
if [ $(id -u) = 0 ]; then
    alice() { unshare --user --map-user=1000 --map-group=1000 \"$bin/$1\" \"${@:2}\"; }
else
    alice() { \"$bin/$1\" \"${@:2}\"; }
fi
# A path for a socket is short.
room=$(mktemp --directory --tmpdir s3mfa-postgres.XXXXXX)
trap 'alice pg_ctl --pgdata=base --silent --mode=immediate stop || true; rm -rf $room' EXIT
begin() {
    alice pg_ctl --pgdata=base --silent --wait --timeout=120 --log=$room/log \\
        --options=\"-c listen_addresses= -c unix_socket_directories=$room\" start
}
sql() {
    \"$bin/psql\" --host=$room --username=alice --no-psqlrc --tuples-only --no-align \\
        --command=\"$1\" postgres
}";

#[test]
fn postgres_makes_and_keeps_a_cluster() {
    let test = "postgres_makes_and_keeps_a_cluster";
    let initdb = "$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)/initdb";
    if !parts::are_here(test, &[initdb, "unshare"], "apt-get install postgresql") {
        return;
    }
    let mut twins = Twins::new();
    twins.run_through_an_end(
        300,
        &format!(
            "{SETTINGS}
            alice initdb --pgdata=base --auth=trust --username=alice --no-locale --encoding=UTF8 \
                --wal-segsize=1 >$room/out
            grep -c ok$ $room/out"
        ),
    );
    twins.remount();
    twins.run(&format!(
        "{SETTINGS}
        begin
        sql 'CREATE TABLE t AS SELECT n, md5(n::text) AS h FROM generate_series(1, 5000) n'
        sql 'CREATE INDEX ON t(h)'; sql 'UPDATE t SET h = h || h WHERE n % 3 = 0'; sql CHECKPOINT
        sql 'DELETE FROM t WHERE n % 5 = 0'
        # As after a power cut: what was committed comes back from the log.
        alice pg_ctl --pgdata=base --silent --wait --mode=immediate stop
        begin
        sql 'SELECT count(*), sum(length(h)) FROM t'
        alice pg_ctl --pgdata=base --silent --wait stop"
    ));
}
