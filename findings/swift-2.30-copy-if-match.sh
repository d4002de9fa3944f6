#!/bin/bash
# Swift 2.30.1 (s3api): x-amz-copy-source-if-match with the ETag of an object in parts is 412, for the
# very ETag that HEAD gives, and that If-Match of a GET accepts.
#
# Seen on 2026-11-27:
#   versions: swift==2.30.1
#   GET with If-Match: 200
#   copy of a small object with its ETag: 200
#   copy of an object in parts with its ETag: 412
"$(dirname "$0")/run" swift==2.30.1 <<'PYTHON'
from servers import expect, parts, swift

with swift() as store:
    large = parts(store, "large")
    small = store.s3.put_object(Bucket="finding", Key="small", Body=b"x")["ETag"]
    def copy(key, tag):
        headers = {"x-amz-copy-source": f"/finding/{key}", "x-amz-copy-source-if-match": tag}
        return store.request("PUT", f"/copy-of-{key}", headers)[0]
    expect("GET with If-Match", store.request("GET", "/large", {"If-Match": large})[0], 200)
    expect("copy of a small object with its ETag", copy("small", small), 200)
    expect("copy of an object in parts with its ETag", copy("large", large), 412)
PYTHON
