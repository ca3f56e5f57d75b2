"""Files from the web, over one connection a request."""

import http.client
import re
import ssl
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from weights_sync.addresses import Address, check_encrypted, connect
from weights_sync.errors import SourceError
from weights_sync.limits import Limits
from weights_sync.retry import Interrupted, Patience, Stale
from weights_sync.transfer import Body, Fetched, Transfer

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "weights-sync", "Connection": "close"}
_SILENCE_S = 30.0
_MAX_REDIRECTS = 10
_PIECE = 1 << 20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_ADDRESS = "/%:@!$&'()*+,;=~?"
_LONGEST_RETRY_AFTER_S = 120


def download(url: str, part: Path, limits: Limits, *, wanted: str = "", known: str = "", token: str = "") -> Fetched:
    """Bring the file at `url` to `part`; `wanted` is the sha256 (hex) it must have, `known` the ETag of what's here.

    `token` is a bearer token for the server of `url`, and for no other that it redirects to.
    """

    @contextmanager
    def opener(offset: int, etag: str) -> Iterator[Body]:
        headers = dict(_HEADERS)
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if etag:
                headers["If-Range"] = etag
        elif known:
            headers["If-None-Match"] = known
        with _request(url, headers, limits, token) as response:
            yield _body(response, url, offset, etag, limits)

    return Transfer(opener, part, shown(url), limits, wanted).run()


def read_text(url: str, limits: Limits, max_bytes: int, token: str = "") -> str:
    """Return the start of a small text, or nothing where the server has none."""
    patience = Patience(shown(url), limits)
    while True:
        try:
            with _request(url, _HEADERS, limits, token) as response, _breaking(url, limits):
                if response.status not in _PASSING:
                    data = response.read(max_bytes) if response.status == http.client.OK else b""
                    return data.decode(errors="replace")
                raise _later(response)
        except Interrupted as error:
            patience.wait(error)


def read_mark(url: str, limits: Limits, token: str = "") -> str:
    """Return a text that changes with the file at `url`, without its bytes; "" where the server gives none."""
    patience = Patience(shown(url), limits)
    while True:
        try:
            # An address that is signed for GET refuses HEAD; the body of the GET is left unread.
            for method in ("HEAD", "GET"):
                with _request(url, _HEADERS, limits, token, method) as response:
                    status, reason = response.status, response.reason
                    if status in _PASSING:
                        raise _later(response)
                    if status == http.client.OK:
                        named = [response.headers.get(name, "") for name in ("etag", "last-modified")]
                        return " ".join((*named, response.headers.get("content-length", ""))) if any(named) else ""
            raise SourceError(f"{shown(url)} answered {status} {reason}".rstrip())
        except Interrupted as error:
            patience.wait(error)


def shown(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def _request(
    url: str, headers: Mapping[str, str], limits: Limits, token: str = "", method: str = "GET"
) -> Iterator[http.client.HTTPResponse]:
    """Yield what the server answers after redirects; whatever breaks on the way is `Interrupted`."""
    trusted: Address | None = None
    origin = _split(url)[:2]
    for hop in range(_MAX_REDIRECTS + 1):
        exchange = _Exchange(method, url, limits, trusted, checked=hop > 0 and not limits.allow_private)
        own = {**headers, "Authorization": f"Bearer {token}"} if token and _split(url)[:2] == origin else headers
        with _breaking(url, limits), exchange.sent(own) as response:
            if response.status not in _REDIRECTS:
                yield response
                return
            trusted = exchange.reached
            url = urljoin(url, response.headers.get("location", ""))
    raise SourceError(f"{shown(url)} redirects more than {_MAX_REDIRECTS} times")


@contextmanager
def _breaking(url: str, limits: Limits) -> Iterator[None]:
    """Turn what the network does to a transfer into `Interrupted`."""
    try:
        yield
    except TimeoutError as error:
        limits.left_s(f"the download of {shown(url)}")
        raise Interrupted("the server is silent") from error
    except ssl.SSLCertVerificationError as error:
        raise SourceError(f"can not download {shown(url)}: {error.verify_message}") from error
    except (http.client.HTTPException, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Interrupted(" ".join(str(reason).split())) from error


@dataclass(slots=True)
class _Exchange:
    """One request and its answer."""

    method: str
    url: str
    limits: Limits
    trusted: Address | None
    checked: bool
    reached: Address | None = None

    @contextmanager
    def sent(self, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        parts = _split(self.url)
        check_encrypted(parts, shown(self.url), self.limits)
        connection = self._connection(parts)
        try:
            path = quote(parts.path or "/", safe=_ADDRESS)
            request = f"{path}?{quote(parts.query, safe=_ADDRESS)}" if parts.query else path
            target = (
                f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{request}" if self._absolute(parts) else request
            )
            connection.request(self.method, target, headers={**headers, **_credentials(parts)})
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        """Return a connection to the host, or to the proxy that the environment names for it."""
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        timeout_s = min(_SILENCE_S, self.limits.left_s(f"the download of {shown(self.url)}"))
        proxy = _proxy(parts)
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        if parts.scheme == "https":
            connection.default_port = 443
        if proxy is None:
            connection.sock = connect(host, port, timeout_s, self.trusted, checked=self.checked)
            address = connection.sock.getpeername()
            self.reached = (address[0], address[1])
        else:
            connection = http.client.HTTPConnection(proxy.hostname or "", proxy.port or 3128, timeout=timeout_s)
            connection.default_port = port
            if parts.scheme == "https":
                connection.set_tunnel(host, port, headers=_credentials(proxy, "Proxy-Authorization"))
            connection.connect()
        if parts.scheme == "https":
            connection.sock = _trust().wrap_socket(connection.sock, server_hostname=host)
        return connection

    def _absolute(self, parts: SplitResult) -> bool:
        return parts.scheme == "http" and _proxy(parts) is not None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and (parts.hostname or "").encode("idna") and parts.port != 0
    except ValueError:
        usable = None
    if not usable:
        raise SourceError(f"{shown(url)[:80]!r} is no web address: it names no host")
    return parts


def _proxy(parts: SplitResult) -> SplitResult | None:
    named = urllib.request.getproxies().get(parts.scheme, "")
    if not named or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urlsplit(named if "//" in named else f"//{named}")


def _credentials(parts: SplitResult, header: str = "Authorization") -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {header: f"Basic {b64encode(pair.encode()).decode()}"}


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def _later(response: http.client.HTTPResponse) -> Interrupted:
    asked = response.headers.get("retry-after", "")
    wait_s = min(int(asked), _LONGEST_RETRY_AFTER_S) if asked.isdecimal() else 0
    return Interrupted(f"it answered {response.status} {response.reason}".rstrip(), wait_s)


def _body(response: http.client.HTTPResponse, url: str, offset: int, etag: str, limits: Limits) -> Body:
    """Return what an answer says about the file, and its bytes."""
    status = response.status
    if status in _PASSING:
        raise _later(response)
    if status == http.client.NOT_MODIFIED:
        return Body(iter(()), etag=_strong(response), unchanged=True)
    first, total = _range(response)
    if status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and offset and total == offset:
        return Body(iter(()), offset, total, etag)
    same = not etag or _strong(response) in {"", etag}
    if status == http.client.PARTIAL_CONTENT and offset and first == offset and same:
        return Body(_pieces(response, url, limits), offset, total, etag)
    if offset and status in {http.client.REQUESTED_RANGE_NOT_SATISFIABLE, http.client.PARTIAL_CONTENT}:
        raise Stale("the file on the server is another now")
    if status != http.client.OK:
        raise SourceError(f"{shown(url)} answered {status} {response.reason}".rstrip())
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise SourceError(f"{shown(url)} sends the file in an encoding that was not asked for")
    declared = response.headers.get("content-length", "")
    chunked = response.headers.get("transfer-encoding", "")
    size = int(declared) if declared.isdecimal() and not chunked else None
    return Body(_pieces(response, url, limits), 0, size, _strong(response))


def _range(response: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """Return where the sent part begins and the size of the file, each None where it is not said."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if not match:
        return None, None
    first, total = match.groups()
    return (int(first) if first else None), (int(total) if total != "*" else None)


def _strong(response: http.client.HTTPResponse) -> str:
    """Return the ETag, if the same tag means the same bytes."""
    tag = response.headers.get("etag", "")
    return tag if tag.startswith('"') and tag.isprintable() else ""


def _pieces(response: http.client.HTTPResponse, url: str, limits: Limits) -> Iterator[memoryview]:
    """Yield the bytes as they arrive, so that a connection that breaks takes none with it."""
    while True:
        with _breaking(url, limits):
            piece = response.read1(_PIECE)
        if not piece:
            return
        yield memoryview(piece)
