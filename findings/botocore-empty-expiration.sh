#!/bin/bash
# botocore 1.43.106: a credential_process whose Expiration is "" ends in an exception of dateutil, which is
# none of botocore's; with null it is as if there were no Expiration.
#
# A key that is missing from the same output is a CredentialRetrievalError.
#
# Seen on 2026-11-27:
#   versions: botocore==1.43.106
#   no Expiration: Credentials
#   null: Credentials
#   a time to come: RefreshableCredentials
#   no SecretAccessKey: CredentialRetrievalError, of botocore
#   empty: ParserError, not of botocore
"$(dirname "$0")/run" botocore==1.43.106 <<'PYTHON'
import json
import os
import pathlib
import shlex
import tempfile

import botocore.exceptions
import botocore.session

from servers import expect

KEYS = {"Version": 1, "AccessKeyId": "KEY", "SecretAccessKey": "SECRET", "SessionToken": "TOKEN"}

for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]

with tempfile.TemporaryDirectory() as room:
    output = pathlib.Path(room, "output")
    config = pathlib.Path(room, "config")
    config.write_text(f"[default]\ncredential_process = cat {shlex.quote(str(output))}\n")
    os.environ["AWS_CONFIG_FILE"] = str(config)
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(pathlib.Path(room, "none"))
    def credentials(told):
        output.write_text(json.dumps(told))
        try:
            return type(botocore.session.Session().get_credentials()).__name__
        except Exception as error:
            own = isinstance(error, botocore.exceptions.BotoCoreError)
            return f"{type(error).__name__}, {'of' if own else 'not of'} botocore"
    expect("no Expiration", credentials(KEYS), "Credentials")
    expect("null", credentials({**KEYS, "Expiration": None}), "Credentials")
    later = credentials({**KEYS, "Expiration": "2099-01-01T00:00:00Z"})
    expect("a time to come", later, "RefreshableCredentials")
    missing = {key: value for key, value in KEYS.items() if key != "SecretAccessKey"}
    expect("no SecretAccessKey", credentials(missing), "CredentialRetrievalError, of botocore")
    empty = credentials({**KEYS, "Expiration": ""})
    expect("empty", empty, "ParserError, not of botocore")
PYTHON
