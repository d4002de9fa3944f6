#!/bin/bash
# A Ceph RGW that lives in memory: one monitor, one object store, one gateway, all on 127.0.0.1,
# with a user `alice`. It starts in two seconds, and everything of it is thrown away.
#
#   ceph.sh MONITOR_PORT GATEWAY_PORT ACCESS_KEY SECRET_KEY
#
# Prints "started" when the gateway is about to answer, and ends with its standard input.
#
# Needs Debian's packages radosgw, ceph-mon and ceph-osd; no root.
set -eu

monitor_port=$1 gateway_port=$2 access_key=$3 secret_key=$4
home=$(mktemp --directory --tmpdir ceph.XXXXXX)
export CEPH_CONF=$home/ceph.conf
children=()

end() {
    set +e
    # Not in an orderly way, which takes seconds: nothing is kept.
    ((${#children[@]})) && kill -KILL "${children[@]}" && wait "${children[@]}"
    rm -rf "$home"
} 2>/dev/null
trap end EXIT
# The end is told through standard input.
trap '' INT HUP

# Runs a daemon that does not outlive this script, however that ends.
daemon() {
    setpriv --pdeathsig KILL "$@" </dev/null >"$home/log/$1.out" 2>&1 &
    children+=($!)
}

mkdir "$home"/{run,log,mon,osd,rgw}
cluster=$(</proc/sys/kernel/random/uuid)
cat >"$CEPH_CONF" <<CONF
[global]
fsid = $cluster
mon host = [v2:127.0.0.1:$monitor_port/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
ms bind ipv6 = false
ms bind msgr1 = false
ms bind msgr2 = true
# No cephx: nobody but the tests talks to the cluster.
auth cluster required = none
auth service required = none
auth client required = none
run dir = $home/run
admin socket = $home/run/\$name.asok
pid file =
log file = $home/log/\$name.log
log to stderr = false
err to stderr = true
crash dir = $home/log
keyring = $home/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon max pg per osd = 1000
mon warn on pool no redundancy = false

[mon]
mon data = $home/mon
mon allow pool size one = true
# One second without these, for each of a dozen pools.
paxos propose interval = 0.05
paxos min wait = 0.01
mon cluster log file = $home/log/cluster.log
# The machine's disk may be fuller than a cluster likes.
mon data avail warn = 2
mon data avail crit = 1

[osd]
osd data = $home/osd
osd objectstore = memstore
# Taken as it is filled.
memstore device bytes = 4294967296
osd check max object name len on startup = false
osd class update on start = false
osd op num shards = 2

[client]
# Gateways insist on encryption, which cannot be had without cephx.
ms mon client mode = crc
admin socket =

[client.rgw.test]
rgw data = $home/rgw
rgw frontends = beast endpoint=127.0.0.1:$gateway_port
rgw s3 auth use sts = true
rgw sts key = abcdefghijklmnop
# Sessions of seconds, which the gateway of a company would not have.
rgw sts min session duration = 2
rgw crypt require ssl = false
rgw enable usage log = false
rgw enable ops log = false
rgw run sync thread = false
rgw dynamic resharding = false
rgw override bucket index max shards = 1
CONF
printf '[mon.]\n\tkey = AQBkAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==\n\tcaps mon = "allow *"\n' \
    >"$home/keyring"

monmaptool --create --fsid "$cluster" --addv a "[v2:127.0.0.1:$monitor_port/0]" "$home/monmap" >/dev/null
ceph-mon --mkfs -i a --monmap "$home/monmap" >/dev/null
daemon ceph-mon -f -i a
store=$(</proc/sys/kernel/random/uuid)
timeout 60 ceph osd new "$store" >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$store" >/dev/null 2>"$home/log/mkfs.out"
daemon ceph-osd -f -i 0
# radosgw-admin waits until the object store is there.
timeout 60 radosgw-admin user create --uid=alice --display-name=Alice --caps='roles=*;user-policy=*' \
    --access-key="$access_key" --secret-key="$secret_key" >/dev/null 2>"$home/log/user.out"
daemon radosgw -f -n client.rgw.test
echo started
# Until the other end is closed.
read -r _ || true
