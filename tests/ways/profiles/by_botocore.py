"""What botocore makes of configuration files: a list of rows as JSON on standard input, a list of
answers on standard output. A row has `env` (the whole environment) and `profile` (or null)."""

import json
import os
import sys

import botocore.configprovider
import botocore.credentials
import botocore.session
from botocore.credentials import AssumeRoleCredentialFetcher as AssumeRole

roles = []


class Known:
    """Stands for what would go to a service, and remembers what it would ask for there."""

    feature_ids = set()

    def __init__(self, **asked):
        self.asked = asked

    def fetch_credentials(self):
        raise AssertionError('nothing is sent')


class Role(Known):
    def __init__(self, **asked):
        super().__init__(**asked)
        extra = asked['extra_args']
        keys = ('SerialNumber', 'RoleSessionName', 'ExternalId', 'DurationSeconds')
        told = [asked['role_arn']] + [str(extra.get(key, '')) for key in keys]
        roles.append((told, asked['source_credentials']))


class Web(Known):
    def __init__(self, **asked):
        super().__init__(**asked)
        origin['source'] = 'web:' + asked['role_arn']


class Sso(Known):
    def __init__(self, **asked):
        super().__init__(**asked)
        keys = ('sso_session_name', 'start_url', 'sso_region', 'account_id', 'role_name')
        origin['source'] = 'sso:' + '|'.join(asked.get(key) or '' for key in keys)


class Login(Known):
    def __init__(self, session_name, **asked):
        super().__init__(**asked)
        origin['source'] = 'login:' + session_name

    def load_cached_credentials(self):
        keys = ('access_key', 'secret_key', 'token', 'account_id')
        return {'expiry_time': '2099-01-01T00:00:00Z', **dict.fromkeys(keys, '')}

    refresh_credentials = load_cached_credentials


botocore.credentials.AssumeRoleCredentialFetcher = Role
botocore.credentials.AssumeRoleWithWebIdentityCredentialFetcher = Web
botocore.credentials.SSOCredentialFetcher = Sso
botocore.credentials.LoginCredentialFetcher = Login
botocore.credentials.EC = object()
# Nobody waits for the metadata service of a machine that is none of AWS's.
botocore.utils.InstanceMetadataFetcher.retrieve_iam_role_credentials = lambda self: {}

PLAIN = {
    'env': 'keys', 'shared-credentials-file': 'keys', 'config-file': 'keys',
    'custom-process': 'process',
}


def endpoint(session, service):
    if session.get_config_variable('ignore_configured_endpoint_urls'):
        return None
    provider = botocore.configprovider.ConfiguredEndpointProvider(
        full_config=session.full_config,
        scoped_config=session.get_scoped_config(),
        client_name=service,
    )
    return provider.provide()


def read(profile):
    session = botocore.session.Session(profile=profile)
    answer = {
        'region': session.get_config_variable('region'),
        's3': endpoint(session, 's3'),
        'sts': endpoint(session, 'sts'),
        'style': (session.get_config_variable('s3') or {}).get('addressing_style'),
        'home': os.path.expanduser('~'),
    }
    keys = session.get_credentials()
    if keys is None:
        raise ValueError('no credentials')
    if roles:
        answer['roles'] = ['|'.join(told) for told, _ in roles]
        keys = roles[0][1]
    if keys.method in PLAIN:
        frozen = keys.get_frozen_credentials()
        origin['source'] = PLAIN[keys.method]
        answer |= {
            'id': frozen.access_key, 'secret': frozen.secret_key,
            # An empty one is not sent.
            'token': frozen.token or None,
        }
    return answer | origin


answers = []
for row in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(row['env'])
    roles.clear()
    origin = {}
    try:
        answers.append(read(row['profile']))
    except Exception as error:
        answers.append({'error': f'{type(error).__name__}: {error}'})
json.dump(answers, sys.stdout)
