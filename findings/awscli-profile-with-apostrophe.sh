#!/bin/bash
# awscli 1.46.3: `aws configure set` with a profile that has an apostrophe in its name succeeds, and the
# profile that it has written is not found by `aws configure get`; with a space in the name too, it is.
#
# Only names with spaces are quoted when they are written, and all are unquoted when they are read.
#
# Seen on 2026-11-27:
#   versions: awscli==1.46.3
#   plain: set: 0, get: 0 eu-west-1
#   it's here: set: 0, get: 0 eu-west-1
#   it's: set: 0, get: 255 The config profile (it's) could not be found
#   written last: [profile it's]
"$(dirname "$0")/run" awscli==1.46.3 <<'PYTHON'
import os
import pathlib
import subprocess
import tempfile

from servers import PROGRAMS, expect

with tempfile.TemporaryDirectory() as room:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    config = pathlib.Path(room, "config")
    files = {"AWS_CONFIG_FILE": config, "AWS_SHARED_CREDENTIALS_FILE": pathlib.Path(room, "none")}
    def aws(*arguments):
        command = [PROGRAMS / "aws", "configure", *arguments]
        ended = subprocess.run(command, env={**kept, **files}, capture_output=True, text=True)
        return f"{ended.returncode} {(ended.stdout + ended.stderr).strip()}".strip()
    def region(profile):
        written = aws("set", "region", "eu-west-1", "--profile", profile)
        return f"set: {written}, get: {aws('get', 'region', '--profile', profile)}"
    expect("plain", region("plain"), "set: 0, get: 0 eu-west-1")
    expect("it's here", region("it's here"), "set: 0, get: 0 eu-west-1")
    lost = "set: 0, get: 255 The config profile (it's) could not be found"
    expect("it's", region("it's"), lost)
    last = [line for line in config.read_text().splitlines() if line.startswith("[")][-1]
    expect("written last", last, "[profile it's]")
PYTHON
