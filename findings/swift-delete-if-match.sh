#!/bin/bash
# Swift 2.38.3 (s3api): DELETE with If-Match and the ETag of an object in parts is 412, for the very ETag
# that HEAD gives, and that If-Match of a GET accepts. The object stays as it is.
#
# An object that was put whole is deleted with its ETag, and not with another one.
#
# Seen on 2026-11-27:
#   versions: swift==2.38.3
#   small: GET with its ETag: 200
#   small: DELETE with another ETag: 412
#   small: DELETE with its ETag: 204
#   in parts: GET with its ETag: 200
#   in parts: DELETE with another ETag: 412
#   in parts: DELETE with its ETag: 412
#   in parts: bytes that are left: 10485760
"$(dirname "$0")/run" swift==2.38.3 <<'PYTHON'
from servers import expect, parts, swift

with swift() as store:
    store.s3.put_object(Bucket="finding", Key="small", Body=b"x")
    parts(store, "large")
    def conditions(name, key, when_written):
        tag = store.s3.head_object(Bucket="finding", Key=key)["ETag"]
        def status(method, tag):
            return store.request(method, f"/{key}", {"If-Match": tag})[0]
        expect(f"{name}: GET with its ETag", status("GET", tag), 200)
        expect(f"{name}: DELETE with another ETag", status("DELETE", f'"{"0" * 32}"'), 412)
        expect(f"{name}: DELETE with its ETag", status("DELETE", tag), when_written)
    conditions("small", "small", 204)
    conditions("in parts", "large", 412)
    left = store.s3.get_object(Bucket="finding", Key="large")["Body"].read()
    expect("in parts: bytes that are left", len(left), 10 << 20)
PYTHON
