"""The library that the AWS CLI is made with, as a process that does what it reads.

One JSON array a line: the name of a function below, and its arguments. It answers each with a
line: {"done": ...} or {"error": ...}. A command of the CLI does the same, and takes half a second
to start.
"""

import json
import sys
import urllib.parse

import awscli.botocore.handlers
import awscli.botocore.session
from awscli.botocore.config import Config
from awscli.s3transfer.manager import TransferManager

s3 = awscli.botocore.session.get_session().create_client(
    "s3", config=Config(s3={"addressing_style": "path"}, read_timeout=120)
)
# Who asks before it sends, and sends nothing, waits for a minute with its next request at SeaweedFS.
s3.meta.events.unregister("before-call.s3", awscli.botocore.handlers.add_expect_header)
transfers = TransferManager(s3)


def make(bucket):
    s3.create_bucket(Bucket=bucket)


def put(bucket, key, file, extra):
    """Puts a file, in parts if it is large."""
    transfers.upload(file, bucket, key, extra_args=extra).result()


def mark(bucket, key):
    """Puts an empty object under a name that may end with a slash."""
    s3.put_object(Bucket=bucket, Key=key)


def get(bucket, key, file):
    answer = s3.get_object(Bucket=bucket, Key=key)
    body = answer.pop("Body")
    with open(file, "wb") as copy:
        for chunk in body.iter_chunks(1 << 20):
            copy.write(chunk)
    return answer


def sizes(bucket, keys):
    """How many bytes each key has; None for what is not there."""
    found = []
    for key in keys:
        try:
            found.append(len(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
        except s3.exceptions.NoSuchKey:
            found.append(None)
    return found


def keys(bucket, plus):
    """All keys; `plus` says that the server writes a space as a plus sign in URLs."""
    unquote = urllib.parse.unquote_plus if plus else urllib.parse.unquote
    found, more = [], {}
    while True:
        # Given by hand, so that the library does not decode.
        page = s3.list_objects_v2(Bucket=bucket, EncodingType="url", **more)
        names = [entry["Key"] for entry in page.get("Contents", [])]
        encoded = page.get("EncodingType") == "url"
        found += [unquote(name) if encoded else name for name in names]
        if not page.get("IsTruncated"):
            return sorted(found)
        more = {"ContinuationToken": page["NextContinuationToken"]}


def remove(bucket, key):
    s3.delete_object(Bucket=bucket, Key=key)


def uploads(bucket):
    """The keys of uploads that are open."""
    return [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def parts(bucket, key):
    """How many parts the open uploads of a key have."""
    found = 0
    for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        if upload["Key"] == key:
            try:
                listed = s3.list_parts(Bucket=bucket, Key=key, UploadId=upload["UploadId"])
                found += len(listed.get("Parts", []))
            except s3.exceptions.NoSuchUpload:
                # Completed since.
                pass
    return found


known = {function.__name__: function for function in (make, put, mark, get, sizes, keys, remove, uploads, parts)}
for line in sys.stdin:
    name, *arguments = json.loads(line)
    try:
        answer = {"done": known[name](*arguments)}
    except Exception as error:
        answer = {"error": f"{name} {arguments}: {error!r}"}
    print(json.dumps(answer, default=str), flush=True)
