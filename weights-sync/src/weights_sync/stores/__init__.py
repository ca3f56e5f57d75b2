"""How each object store is reached: what the environment, the files and the machine's identity say, as options.

obstore reads the variables of each cloud's own tools itself, and asks the machine for an identity where they say
nothing. Added is what it does not do: KServe's variables, AWS's files, and reading without credentials.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult

from weights_sync.authorities import added_authorities, read_authorities
from weights_sync.credentials import storage_environment
from weights_sync.limits import Limits
from weights_sync.stores.azure import azure_config, container_and_key
from weights_sync.stores.gcs import gcs_config
from weights_sync.stores.s3 import checks_certificates, s3_config

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_SILENCE_S = 30


def open_store(place: SplitResult, limits: Limits) -> "ObjectStore":
    """Return the store that holds the bucket of s3://BUCKET/, gs://BUCKET/, az://CONTAINER/ or an Azure web address."""
    from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415 - no other source has to pay 15 MB for it

    environment = storage_environment(os.environ)
    left = timedelta(seconds=limits.left_s("the download"))
    # A short fuse: `Transfer` tries again itself, under the one deadline.
    retry: RetryConfig = {"max_retries": 1, "retry_timeout": min(left, timedelta(seconds=_SILENCE_S))}
    if place.scheme == "s3":
        s3 = s3_config(environment, place.netloc)
        client = _client(environment, left, s3.get("endpoint", ""), checked=checks_certificates(environment))
        return S3Store(place.netloc, config=s3, client_options=client, retry_config=retry)
    if place.scheme == "gs":
        gcs = gcs_config(environment)
        client = _client(environment, left, gcs.get("base_url", ""))
        return GCSStore(place.netloc, config=gcs, client_options=client, retry_config=retry)
    azure = azure_config(environment, place)
    client = _client(environment, left, azure.get("endpoint", ""))
    return AzureStore(container_and_key(place)[0], config=azure, client_options=client, retry_config=retry)


def _client(environment: Mapping[str, str], left: timedelta, endpoint: str, *, checked: bool = True) -> "ClientConfig":
    silence = min(left, timedelta(seconds=_SILENCE_S))
    client: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "allow_invalid_certificates": not checked,
        "connect_timeout": silence,
        "read_timeout": silence,
        "timeout": left,
    }
    named = environment.get("AWS_CA_BUNDLE")
    authorities = Path(named) if named else added_authorities()
    if authorities and checked:
        client["root_certificate"] = read_authorities(authorities)
    return client
