#!/bin/bash
# A SeaweedFS: master, volume server, filer and S3 gateway in one process on 127.0.0.1, with a user
# `alice`. Everything of it is thrown away.
#
#   seaweed.sh PROGRAM MASTER_PORT VOLUME_PORT FILER_PORT S3_PORT GRPC_PORT... KEY SECRET
#
# The four GRPC_PORTs are in the same order. Prints "started" when the gateway is about to answer,
# and ends with its standard input. Needs no root.
set -eu

program=$1 master=$2 volume=$3 filer=$4 gateway=$5
master_grpc=$6 volume_grpc=$7 filer_grpc=$8 gateway_grpc=$9 key=${10} secret=${11}
home=$(mktemp --directory --tmpdir seaweed.XXXXXX)
server=

end() {
    set +e
    # Not in an orderly way: nothing is kept.
    [ -n "$server" ] && kill -KILL "$server" && wait "$server"
    rm -rf "$home"
} 2>/dev/null
trap end EXIT
# The end is told through standard input.
trap '' INT HUP

cat >"$home/keys.json" <<JSON
{"identities": [{"name": "alice", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                 "credentials": [{"accessKey": "$key", "secretKey": "$secret"}]}]}
JSON
mkdir "$home/data"
options=(
    -dir="$home/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false
    -master.port="$master" -master.port.grpc="$master_grpc"
    # A bucket is a collection with volumes of its own, which cost nothing while they are empty.
    -master.volumeSizeLimitMB=256 -volume.max=4000 -volume.minFreeSpace=1
    # The election is among one.
    -master.electionTimeout=1s
    -volume.port="$volume" -volume.port.grpc="$volume_grpc"
    -filer -filer.port="$filer" -filer.port.grpc="$filer_grpc"
    -s3 -s3.port="$gateway" -s3.port.grpc="$gateway_grpc" -s3.port.iceberg=0 -s3.port.lance=0
    -s3.config="$home/keys.json"
)
cd "$home"
# Of which one is enough, instead of seven.
export WEED_MASTER_VOLUME_GROWTH_COPY_1=1
setpriv --pdeathsig KILL "$program" -logtostderr=true server "${options[@]}" </dev/null >"$home/log" 2>&1 &
server=$!
for ((tries = 0; ; tries++)); do
    { : <>"/dev/tcp/127.0.0.1/$gateway"; } 2>/dev/null && break
    ((tries < 600)) && kill -0 "$server" || exit 1
    sleep 0.1
done
echo started
# Until the other end is closed.
read -r _ || true
