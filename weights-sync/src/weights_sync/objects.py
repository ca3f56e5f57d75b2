"""Files in object stores: s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY.

Credentials are read as each cloud's users expect, from the environment and the machine's identity, which is also where
KServe puts those of a service account's secrets.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from weights_sync.errors import SourceError
from weights_sync.limits import Limits
from weights_sync.retry import Interrupted, Patience, Stale
from weights_sync.transfer import Body, Fetched, Transfer

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

# obstore is imported where it is needed: no other source has to pay for 15 MB of it.
# ruff: noqa: PLC0415

_PIECE = 1 << 20
_SILENCE_S = 30
_TRUE = frozenset({"1", "true", "yes"})


def download_object(uri: str, part: Path, limits: Limits, *, wanted: str = "", known: str = "") -> Fetched:
    """Bring an object to `part`; `wanted` is the sha256 (hex) it must have, `known` the ETag of what's here."""
    import obstore

    scheme, bucket, key = _split(uri)
    name = f"{scheme}://{bucket}/{key}"
    try:
        store = _store(scheme, bucket, limits)
    except obstore.exceptions.BaseError as error:
        raise SourceError(f"can not set up the way to {name}: {_line(error)}") from error

    @contextmanager
    def opener(offset: int, etag: str) -> Iterator[Body]:
        options: GetOptions = {}
        with _breaking(name):
            if offset:
                meta = obstore.head(store, key)
                if meta["size"] <= offset or (etag and meta["e_tag"] != etag):
                    if meta["size"] != offset or (etag and meta["e_tag"] != etag):
                        raise Stale("the object is another now")
                    yield Body(iter(()), offset, offset, etag)
                    return
                options["range"] = {"offset": offset}
                if etag:
                    options["if_match"] = etag
            elif known:
                options["if_none_match"] = known
            try:
                result = obstore.get(store, key, options=options)
            except obstore.exceptions.NotModifiedError:
                yield Body(iter(()), etag=known, unchanged=True)
                return
        yield Body(_pieces(result, name), result.range[0], result.meta["size"], result.meta["e_tag"] or "")

    return Transfer(opener, part, name, limits, wanted).run()


def read_object_mark(uri: str, limits: Limits) -> str:
    """Return a text that changes with the object, without its bytes."""
    import obstore

    scheme, bucket, key = _split(uri)
    name = f"{scheme}://{bucket}/{key}"
    patience = Patience(name, limits)
    while True:
        try:
            with _breaking(name):
                meta = obstore.head(_store(scheme, bucket, limits), key)
            return f"{meta['e_tag'] or meta['last_modified']} {meta['size']} {meta['version'] or ''}"
        except Interrupted as error:
            patience.wait(error)


def _split(uri: str) -> tuple[str, str, str]:
    parts = urlsplit(uri)
    key = unquote(parts.path).lstrip("/")
    if not parts.netloc or not key or key.endswith("/"):
        raise SourceError(f"an object is named by its bucket and key, as {parts.scheme}://models/yolo/x.onnx")
    return parts.scheme.lower(), parts.netloc, key


def _pieces(result: "GetResult", name: str) -> Iterator[memoryview]:
    with _breaking(name):
        for piece in result.stream(_PIECE):
            yield memoryview(piece)


def _store(scheme: str, bucket: str, limits: Limits) -> "ObjectStore":
    from obstore.store import AzureStore, GCSStore, S3Store

    # A short fuse: `Transfer` tries again itself, under the one deadline.
    left = timedelta(seconds=min(_SILENCE_S, limits.left_s("the download")))
    retry: RetryConfig = {"max_retries": 1, "retry_timeout": left}
    client: ClientConfig = {"connect_timeout": left, "read_timeout": timedelta(seconds=_SILENCE_S)}
    if scheme == "gs":
        return GCSStore(bucket, client_options=client, retry_config=retry)
    if scheme == "az":
        return AzureStore(bucket, client_options=client, retry_config=retry)
    config = s3_config(os.environ)
    client["allow_http"] = config.get("endpoint", "").startswith("http://")
    client["allow_invalid_certificates"] = os.environ.get("S3_VERIFY_SSL", "1").lower() not in _TRUE
    return S3Store(bucket, config=config, client_options=client, retry_config=retry)


def s3_config(environment: Mapping[str, str]) -> "S3Config":
    """Return what KServe's secrets say in variables of its own; the AWS_ ones are read by the store itself."""
    config: S3Config = {}
    endpoint = environment.get("AWS_ENDPOINT_URL") or environment.get("S3_ENDPOINT", "")
    if endpoint and "://" not in endpoint:
        secure = environment.get("S3_USE_HTTPS", "1").lower() in _TRUE
        endpoint = f"{'https' if secure else 'http'}://{endpoint}"
    if endpoint:
        config["endpoint"] = endpoint
    if environment.get("S3_USER_VIRTUAL_BUCKET", "0").lower() in _TRUE:
        config["virtual_hosted_style_request"] = True
    if environment.get("awsAnonymousCredential", "0").lower() in _TRUE:
        config["skip_signature"] = True
    return config


@contextmanager
def _breaking(name: str) -> Iterator[None]:
    """Turn what the store says into one line, and into `Interrupted` where it may pass."""
    from obstore import exceptions

    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError) as error:
        raise SourceError(f"there is no {name}") from error
    except exceptions.PreconditionError as error:
        raise Stale("the object is another now") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise SourceError(f"{name} is not for these credentials: check the service account and its secret") from error
    except exceptions.BaseError as error:
        raise Interrupted(_line(error)) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
