"""Files from the web."""

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from weights_sync.errors import SourceError, TooLargeError

_TIMEOUT = httpx2.Timeout(30, connect=10)


def download(url: str, file: Path, *, max_bytes: int, allow_http: bool = False) -> None:
    """Stream the body of `url` into `file`; plain HTTP only from this machine unless allowed."""

    def check(request: httpx2.Request) -> None:
        if not request.url.host:
            raise SourceError(f"{url[:80]!r} is no web address: it names no host")
        # For every hop: a redirect must not lead from https to something anyone can read and change.
        if request.url.scheme != "https" and not allow_http and not _is_loopback(request.url.host):
            raise SourceError(f"{shown(str(request.url))} is not encrypted: use https, or allow plain HTTP")

    try:
        with (
            httpx2.Client(follow_redirects=True, timeout=_TIMEOUT, event_hooks={"request": [check]}) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != httpx2.codes.OK:
                raise SourceError(f"{shown(url)} answered {response.status_code} {response.reason_phrase}".rstrip())
            _save(response, file, max_bytes)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"can not download {shown(url)}: {reason}") from error
    except OSError as error:
        raise SourceError(f"can not keep the download of {shown(url)}: {error.strerror}") from error


def _save(response: httpx2.Response, file: Path, max_bytes: int) -> None:
    """Write the body; stop as soon as it is known to be over the limit."""
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise TooLargeError(f"{shown(str(response.url))} has {declared} bytes; the limit is {max_bytes}")
    size = 0
    with file.open("wb") as stream:
        for piece in response.iter_bytes():
            size += len(piece)
            if size > max_bytes:
                raise TooLargeError(f"{shown(str(response.url))} has more than {max_bytes} bytes, the limit")
            stream.write(piece)


def shown(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
