"""What a secret of a service account becomes in the environment of KServe's storage initializer (KServe 0.20).

The variables of the clouds themselves (`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_CLIENT_ID`,
`HF_TOKEN`) are read where each cloud is spoken to; here is what KServe has names of its own for.
"""

import json
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from weights_sync.errors import SourceError
from weights_sync.exchange import Login

_STORAGE_KEYS = {
    "endpoint_url": "AWS_ENDPOINT_URL",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "region": "AWS_DEFAULT_REGION",
    "ca_bundle": "AWS_CA_BUNDLE",
    "verify_ssl": "S3_VERIFY_SSL",
    "anonymous": "awsAnonymousCredential",
}


def storage_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment, with what the `storage` of an InferenceService says of S3 in it."""
    stated = _parsed(environment, "STORAGE_CONFIG") | _parsed(environment, "STORAGE_OVERRIDE_CONFIG")
    if stated.get("type") != "s3":
        return dict(environment)
    return {**environment, **{name: stated[key] for key, name in _STORAGE_KEYS.items() if key in stated}}


def host_login(url: str) -> Login:
    """Return the login for a web address: the headers that a secret with `https-host` gives for its host."""
    try:
        headers = _parsed(os.environ, f"{urlsplit(url).hostname}-headers")
    except ValueError:
        headers = {}
    return lambda _: headers


def _parsed(environment: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the JSON object in a variable, empty where it is not set; a secret in it is not shown."""
    try:
        stated = json.loads(environment.get(name) or "{}")
        return {str(key): value if isinstance(value, str) else json.dumps(value) for key, value in stated.items()}
    except (ValueError, AttributeError) as error:
        raise SourceError(f"the variable {name} is no JSON object: mend the secret it comes from") from error
