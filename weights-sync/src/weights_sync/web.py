"""Files and short texts from the web, over one connection a request."""

import http.client
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from weights_sync.errors import SourceError
from weights_sync.exchange import HEADERS, Login, anonymous, answered, breaking, shown
from weights_sync.limits import Limits
from weights_sync.retry import Interrupted, Patience, Stale
from weights_sync.transfer import Body, Fetched, Transfer

_PIECE = 1 << 20
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_LONGEST_RETRY_AFTER_S = 120
_MAX_DIGITS = 18
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Answer:
    """A short text from a server."""

    status: int
    kind: str
    """Its media type, as the server says it."""
    data: bytes
    """The start of it, whatever the status."""


def download(
    url: str, part: Path, limits: Limits, *, wanted: str = "", known: str = "", login: Login = anonymous
) -> Fetched:
    """Bring the file at `url` to `part`; `wanted` is the sha256 (hex) it must have, `known` the ETag of what's here."""

    @contextmanager
    def opener(offset: int, etag: str) -> Iterator[Body]:
        headers = dict(HEADERS)
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if etag:
                headers["If-Range"] = etag
        elif known:
            headers["If-None-Match"] = known
        with answered(url, headers, limits, login) as response:
            yield _body(response, url, offset, etag, limits)

    return Transfer(opener, part, shown(url), limits, wanted).run()


def read(
    url: str,
    limits: Limits,
    max_bytes: int,
    *,
    headers: Mapping[str, str] = _NONE,
    login: Login = anonymous,
    checked: bool = False,
) -> Answer:
    """Return the first `max_bytes` of what a server says; answers that may pass are tried again."""
    patience = Patience(shown(url), limits)
    while True:
        try:
            with (
                answered(url, {**HEADERS, **headers}, limits, login, checked=checked) as response,
                breaking(url, limits),
            ):
                if response.status not in _PASSING:
                    kind = response.headers.get_content_type()
                    return Answer(response.status, kind, _start(response, url, limits, max_bytes))
                raise _later(response)
        except Interrupted as error:
            patience.wait(error)


def read_mark(url: str, limits: Limits, login: Login = anonymous) -> str:
    """Return a text that changes with the file at `url`, without its bytes; "" where the server gives none."""
    patience = Patience(shown(url), limits)
    while True:
        try:
            # An address that is signed for GET refuses HEAD; the body of the GET is left unread.
            for method in ("HEAD", "GET"):
                with answered(url, HEADERS, limits, login, method=method) as response:
                    status, reason = response.status, response.reason
                    if status in _PASSING:
                        raise _later(response)
                    if status == http.client.OK:
                        named = [response.headers.get(name, "") for name in ("etag", "last-modified")]
                        return " ".join((*named, response.headers.get("content-length", ""))) if any(named) else ""
            raise SourceError(f"{shown(url)} answered {status} {reason}".rstrip())
        except Interrupted as error:
            patience.wait(error)


def _later(response: http.client.HTTPResponse) -> Interrupted:
    asked = response.headers.get("retry-after", "")
    wait_s = min(_number(asked) or 0, _LONGEST_RETRY_AFTER_S)
    return Interrupted(f"it answered {response.status} {response.reason}".rstrip(), wait_s)


def _body(response: http.client.HTTPResponse, url: str, offset: int, etag: str, limits: Limits) -> Body:
    """Return what an answer says about the file, and its bytes."""
    status = response.status
    if status in _PASSING:
        raise _later(response)
    if status == http.client.NOT_MODIFIED:
        return Body(iter(()), etag=_strong(response), unchanged=True)
    first, total = _range(response)
    same = not etag or _strong(response) in {"", etag}
    if status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and offset and total == offset and same:
        return Body(iter(()), offset, total, etag)
    if status == http.client.PARTIAL_CONTENT and offset and first == offset and total is not None and same:
        return Body(_pieces(response, url, limits), offset, total, etag)
    if offset and status in {http.client.REQUESTED_RANGE_NOT_SATISFIABLE, http.client.PARTIAL_CONTENT}:
        raise Stale("the file on the server is another now")
    if status != http.client.OK:
        raise SourceError(f"{shown(url)} answered {status} {response.reason}".rstrip())
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise SourceError(f"{shown(url)} sends the file in an encoding that was not asked for")
    declared = response.headers.get("content-length", "")
    chunked = response.headers.get("transfer-encoding", "")
    size = None if chunked else _number(declared)
    return Body(_pieces(response, url, limits), 0, size, _strong(response))


def _range(response: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """Return where the sent part begins and the size of the file, each None where it is not said."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if not match:
        return None, None
    first, total = match.groups()
    return _number(first or ""), _number(total)


def _number(text: str) -> int | None:
    """Return what a header counts, None where that is no number, or none that anything has."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _start(response: http.client.HTTPResponse, url: str, limits: Limits, max_bytes: int) -> bytes:
    """Return the first `max_bytes` of a body, in time."""
    data = bytearray()
    for piece in _pieces(response, url, limits):
        data += piece
        if len(data) >= max_bytes:
            break
        limits.left_s(f"the download of {shown(url)}")
    return bytes(data[:max_bytes])


def _strong(response: http.client.HTTPResponse) -> str:
    """Return the ETag, if the same tag means the same bytes."""
    tag = response.headers.get("etag", "")
    return tag if tag.startswith('"') and tag.isprintable() else ""


def _pieces(response: http.client.HTTPResponse, url: str, limits: Limits) -> Iterator[memoryview]:
    """Yield the bytes as they arrive, so that a connection that breaks takes none with it."""
    while True:
        with breaking(url, limits):
            piece = response.read1(_PIECE)
        if not piece:
            return
        yield memoryview(piece)
