#!/bin/bash
# A Swift with its S3 API: one proxy, one account, one container and one object server and a
# memcached, all on 127.0.0.1, with a user whose keys are given. Everything of it is thrown away.
#
#   swift.sh PROGRAMS PROXY_PORT ACCOUNT_PORT CONTAINER_PORT OBJECT_PORT MEMCACHED_PORT KEY SECRET
#
# PROGRAMS is the directory of swift-proxy-server: /usr/bin, or that of a virtual environment. KEY
# is ACCOUNT:USER, as tempauth has it. Prints "started" when the proxy is about to answer, and ends
# with its standard input.
#
# Needs memcached and a file system that keeps user.* attributes; no root.
set -eu

programs=$1 proxy=$2 account=$3 container=$4 object=$5 memcached=$6 key=$7 secret=$8
home=$(mktemp --directory --tmpdir swift.XXXXXX)
children=()

end() {
    set +e
    # Not in an orderly way: nothing is kept.
    ((${#children[@]})) && kill -KILL "${children[@]}" && wait "${children[@]}"
    rm -rf "$home"
} 2>/dev/null
trap end EXIT
# The end is told through standard input.
trap '' INT HUP

# Runs a daemon that does not outlive this script, however that ends.
daemon() {
    setpriv --pdeathsig KILL "${@:2}" </dev/null >"$home/log/$1" 2>&1 &
    children+=($!)
}

mkdir "$home"/{log,node,node/disk}
cat >"$home/swift.conf" <<CONF
[swift-hash]
swift_hash_path_suffix = tests
[storage-policy:0]
name = one
default = yes
CONF

# What the four servers have in common.
common() {
    cat <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $1
swift_dir = $home
user = $(id --user --name)
# All in one process: a second one would only take longer to start.
workers = 0
devices = $home/node
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
# There is no syslog, and nobody reads what it would get.
log_address = $home/no-syslog
# Nothing but a listing at once is a listing: what a busy machine lets time out would be told to
# the container by a daemon that does not run here.
node_timeout = 60
conn_timeout = 10
container_update_timeout = 60
CONF
}

for server in account container object; do
    {
        common "${!server}"
        cat <<CONF
[pipeline:main]
pipeline = $server-server
[app:$server-server]
use = egg:swift#$server
node_timeout = 60
conn_timeout = 10
container_update_timeout = 60
CONF
    } >"$home/$server.conf"
done
{
    common "$proxy"
    cat <<CONF
[pipeline:main]
pipeline = catch_errors cache s3api tempauth bulk slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
node_timeout = 60
recoverable_node_timeout = 60
conn_timeout = 10
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$memcached
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_${key/:/_} = $secret .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
CONF
} >"$home/proxy.conf"

# Rings of one device each. One process makes all three, which swift-ring-builder would need nine for.
python=$(sed --quiet '1s/^#! *//p' "$programs/swift-proxy-server")
# Without quotes: it may have an argument.
$python - "$home" "account=$account" "container=$container" "object=$object" <<'PYTHON'
import sys
from swift.common.ring import RingBuilder

for server in sys.argv[2:]:
    name, port = server.split("=")
    ring = RingBuilder(2, 1, 0)
    ring.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, "device": "disk",
                  "ip": "127.0.0.1", "port": int(port),
                  "replication_ip": "127.0.0.1", "replication_port": int(port)})
    ring.rebalance(seed=0)
    ring.get_ring().save(f"{sys.argv[1]}/{name}.ring.gz")
PYTHON

daemon memcached memcached --listen=127.0.0.1 --port="$memcached" --udp-port=0 --user="$(id --user --name)"
for server in account container object proxy; do
    daemon "$server" "$programs/swift-$server-server" "$home/$server.conf"
done
# The proxy needs the others, and a port may have been taken meanwhile.
for port in "$memcached" "$account" "$container" "$object" "$proxy"; do
    for ((tries = 0; ; tries++)); do
        { : <>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null && break
        ((tries < 600)) || exit 1
        kill -0 "${children[@]}" || exit 1
        sleep 0.1
    done
done
echo started
# Until the other end is closed.
read -r _ || true
