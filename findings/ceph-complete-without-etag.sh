#!/bin/bash
# Ceph RGW 16.2.15: CompleteMultipartUpload says 200 with an ETag that is empty, and HEAD, right after it,
# has the ETag of the object.
#
# Who remembers what has been put by the ETag in this answer remembers nothing, without an error.
#
# Needs Debian's packages radosgw, ceph-mon and ceph-osd.
#
# Seen on 2026-11-27:
#   versions: botocore==1.43.106
#   version of radosgw: 16.2.15
#   ETag when completed: ''
#   ETag of HEAD: '"d316408c159ea701ab954894bd3a92c2-2"'
"$(dirname "$0")/run" botocore==1.43.106 <<'PYTHON'
import subprocess

from servers import SCRIPTS, SECRET, expect, parts, ports, started

version = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True)
expect("version of radosgw", version.stdout.split()[2], "16.2.15")
chosen = ports(2)
with started([SCRIPTS / "ceph.sh", *chosen, "ALICE", SECRET], chosen[1], "ALICE") as store:
    expect("ETag when completed", repr(parts(store, "large")), "''")
    tag = store.s3.head_object(Bucket="finding", Key="large")["ETag"]
    expect("ETag of HEAD", repr(tag), "'\"d316408c159ea701ab954894bd3a92c2-2\"'")
PYTHON
