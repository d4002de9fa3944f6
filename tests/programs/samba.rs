//! A mount that Samba shares.

use std::net::TcpListener;

use crate::scene::{noise, parts};
use crate::twins::Twins;

/// Serves the directory on a port of this machine until the script ends.
const SERVE: &str = r#"
room=$(mktemp --directory --tmpdir s3mfa-samba.XXXXXX)
cat >$room/smb.conf <<CONF
[global]
server role = standalone server
interfaces = 127.0.0.1
bind interfaces only = yes
smb ports = $port
disable netbios = yes
disable spoolss = yes
load printers = no
map to guest = bad user
guest account = root
private dir = $room
state directory = $room
cache directory = $room
lock directory = $room
pid directory = $room
ncalrpc dir = $room/ncalrpc
log file = $room/log
[share]
path = $PWD
read only = no
guest ok = yes
force user = root
CONF
# In a process group of its own, which is what it ends.
setpriv --pdeathsig TERM smbd --foreground --configfile=$room/smb.conf </dev/null >$room/out 2>&1 &
smbd=$!
trap 'kill $smbd; wait $smbd || true; rm -rf $room' EXIT
# What it says has speeds and dates in it.
share() {
    timeout 200 smbclient --configfile=$room/smb.conf //127.0.0.1/share --port=$port --no-pass \
        --timeout=120 --command="$1" >$room/said 2>&1 || { cat $room/said; false; }
}
until share ls; do sleep 0.1; kill -0 $smbd; done >$room/waiting
"#;

#[test]
fn files_are_put_and_gotten_through_samba() {
    let test = "files_are_put_and_gotten_through_samba";
    let install = "apt-get install samba smbclient";
    if !parts::are_here(test, &["smbd", "smbclient", "setpriv"], install) || !parts::is_root(test) {
        return;
    }
    let mut twins = Twins::new();
    std::fs::write(twins.source().join("large"), noise(31, 20 << 20)).unwrap();
    // Free again when the listener is gone.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let port = address.unwrap().port();
    let serve = format!("port={port}{SERVE}");
    twins.run_through_an_end(
        8,
        &format!(
            "{serve}
            share 'lcd ../source; put large; mkdir d; put large d/second; get large gotten-'$port
            cmp ../source/large ../source/gotten-$port; cmp large d/second
            share 'rename d/second d/third; rename d e; del large; mkdir f; rmdir f'
            find . | sort"
        ),
    );
    twins.remount();
    twins.run(&format!(
        "{serve}
        share 'lcd ../source; get e/third again; put large e/third; put large \"e/a name\"'
        cmp ../source/large ../source/again; cmp e/third 'e/a name'
        share 'cd e; deltree ../e'
        ls -A"
    ));
    twins.assert_same_trees();
}
