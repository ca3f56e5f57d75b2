"""Files in object stores: s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY.

Credentials are read as each cloud's users expect, from the environment and the machine's identity, which is also where
KServe puts those of a service account's secrets.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from weights_sync.errors import SourceError
from weights_sync.limits import Limits
from weights_sync.retry import Interrupted, Patience, Stale
from weights_sync.stores import open_store
from weights_sync.stores.azure import container_and_key
from weights_sync.transfer import Body, Fetched, Transfer

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ObjectStore

# obstore is imported where it is needed: no other source has to pay for 15 MB of it.
# ruff: noqa: PLC0415

_PIECE = 1 << 20


def download_object(uri: str, part: Path, limits: Limits, *, wanted: str = "", known: str = "") -> Fetched:
    """Bring an object to `part`; `wanted` is the sha256 (hex) it must have, `known` the ETag of what's here."""
    import obstore

    store, key, name = _open(uri, limits)

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

    store, key, name = _open(uri, limits)
    patience = Patience(name, limits)
    while True:
        try:
            with _breaking(name):
                meta = obstore.head(store, key)
            return f"{meta['e_tag'] or meta['last_modified']} {meta['size']} {meta['version'] or ''}"
        except Interrupted as error:
            patience.wait(error)


def _open(uri: str, limits: Limits) -> "tuple[ObjectStore, str, str]":
    """Return the store of an object, its key there, and its name for people."""
    import obstore

    place = urlsplit(uri)
    key = _key(place)
    name = f"{place.scheme}://{place.netloc}{place.path}"
    try:
        return open_store(place, limits), key, name
    except obstore.exceptions.BaseError as error:
        raise SourceError(f"can not set up the way to {name}: {_line(error)}") from error


def _key(place: SplitResult) -> str:
    container, key = container_and_key(place) if place.scheme in {"az", "https"} else (place.netloc, place.path)
    if not container or not key.strip("/") or key.endswith("/"):
        raise SourceError(f"an object is named by its bucket and key, as {place.scheme}://models/yolo/x.onnx")
    return unquote(key).lstrip("/")


def _pieces(result: "GetResult", name: str) -> Iterator[memoryview]:
    with _breaking(name):
        for piece in result.stream(_PIECE):
            yield memoryview(piece)


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
    # What follows is how the store's own structures look.
    return " ".join(str(error).partition("Debug source")[0].split())[:240]
