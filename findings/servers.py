"""Starts a server for a finding, and speaks S3 to it: with a library, or with a request by hand."""

import contextlib
import hashlib
import http.client
import pathlib
import socket
import subprocess
import sys
import time

import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.session

SCRIPTS = pathlib.Path(__file__).parent.parent / "tests/others"
PROGRAMS = pathlib.Path(sys.executable).parent
SECRET = "alicesecretkeyalicesecretkeyalicesecret1"


def ports(count):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [str(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return found


class Store:
    """A store at a port, with a bucket named `finding`."""

    def __init__(self, port, access_key):
        self.address = f"127.0.0.1:{port}"
        self.keys = botocore.credentials.Credentials(access_key, SECRET)
        self.s3 = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=f"http://{self.address}",
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=SECRET,
            config=botocore.config.Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        self.s3.create_bucket(Bucket="finding")

    def request(self, method, path, headers=None, body=b""):
        """A signed request below the bucket. Returns status, headers and body."""
        path = f"/finding{path}"
        signed = botocore.awsrequest.AWSRequest(
            method, f"http://{self.address}{path}", dict(headers or {}), body
        )
        signed.headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
        botocore.auth.S3SigV4Auth(self.keys, "s3", "us-east-1").add_auth(signed)
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request(method, path, body, dict(signed.headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


@contextlib.contextmanager
def started(command, port, access_key):
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"started\n", "the server does not start"
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.1)
        yield Store(port, access_key)
    finally:
        child.stdin.close()
        child.wait()


def seaweedfs():
    chosen = ports(8)
    command = [SCRIPTS / "seaweed.sh", PROGRAMS / "weed", *chosen, "ALICE", SECRET]
    return started(command, chosen[3], "ALICE")


def swift():
    chosen = ports(5)
    command = [SCRIPTS / "swift.sh", PROGRAMS, *chosen, "docs:alice", SECRET]
    return started(command, chosen[0], "docs:alice")


def parts(store, key):
    """Puts an object in two parts. Returns its ETag."""
    upload = {"Bucket": "finding", "Key": key}
    upload["UploadId"] = store.s3.create_multipart_upload(**upload)["UploadId"]
    tags = [
        store.s3.upload_part(**upload, PartNumber=number, Body=b"x" * (5 << 20))["ETag"]
        for number in (1, 2)
    ]
    listed = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
    return store.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": listed})["ETag"]


def expect(name, seen, when_written):
    """Prints what is seen, and fails if it is not what was seen when the finding was written."""
    print(f"{name}: {seen}")
    if seen != when_written:
        sys.exit(f"{name}: when this was written, {when_written}")
