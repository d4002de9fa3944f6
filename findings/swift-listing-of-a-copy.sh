#!/bin/bash
# Swift 2.38.3 (s3api): the copy of an object in parts has one ETag in HEAD and another one in a listing.
#
# Who remembers objects by ETag, as the two are equal for all others, takes it for changed each time.
#
# Seen on 2026-11-27:
#   versions: swift==2.38.3
#   original: listed as HEAD has it
#   copy: listed otherwise
"$(dirname "$0")/run" swift==2.38.3 <<'PYTHON'
from servers import expect, parts, swift

with swift() as store:
    parts(store, "original")
    source = {"Bucket": "finding", "Key": "original"}
    store.s3.copy_object(Bucket="finding", Key="copy", CopySource=source)
    listed = store.s3.list_objects_v2(Bucket="finding")["Contents"]
    listed = {entry["Key"]: entry["ETag"] for entry in listed}
    def compared(key):
        same = store.s3.head_object(Bucket="finding", Key=key)["ETag"] == listed[key]
        return "listed as HEAD has it" if same else "listed otherwise"
    expect("original", compared("original"), "listed as HEAD has it")
    expect("copy", compared("copy"), "listed otherwise")
PYTHON
