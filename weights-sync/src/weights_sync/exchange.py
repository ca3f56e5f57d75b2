"""One request and its answer: redirects and who may see which headers, proxies, certificates, private addresses."""

import http.client
import ssl
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from weights_sync.addresses import Address, check_encrypted, check_literal, connect, may_be_plain
from weights_sync.authorities import trust
from weights_sync.errors import SourceError
from weights_sync.limits import Limits
from weights_sync.retry import Interrupted

HEADERS = {"Accept-Encoding": "identity", "User-Agent": "weights-sync", "Connection": "close"}
SILENCE_S = 30.0
_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ADDRESS = "/%:@!$&'()*+,;=~?"

Login = Callable[[str], Mapping[str, str]]
"""From a server's challenge (the WWW-Authenticate of a 401; empty before the first request) to headers for it."""


def shown(url: str) -> str:
    """Return a URL without what may be secret in it: user, password, query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def basic(user: str, password: str) -> str:
    """Return the value of an Authorization header for a user with a password."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def anonymous(_challenge: str) -> Mapping[str, str]:
    """Show a server nothing."""
    return {}


@contextmanager
def answered(
    url: str,
    headers: Mapping[str, str],
    limits: Limits,
    login: Login = anonymous,
    *,
    checked: bool = False,
    method: str = "GET",
) -> Iterator[http.client.HTTPResponse]:
    """Yield what the server answers after redirects; whatever breaks on the way is `Interrupted`.

    What `login` gives goes to the server of `url` and to no other; where `checked`, that server must be a public one.
    """
    trusted: Address | None = None
    origin = _split(url)[:2]
    own, challenged = login(""), False
    hop = 0
    while hop <= _MAX_REDIRECTS:
        public = (checked or hop > 0) and not limits.allow_private
        exchange = _Exchange(method, url, limits, trusted, checked=public)
        at_origin = _split(url)[:2] == origin
        with breaking(url, limits), exchange.sent({**headers, **own} if at_origin else headers) as response:
            if at_origin and response.status == http.client.UNAUTHORIZED and not challenged:
                challenged, before = True, own
                own = login(response.headers.get("www-authenticate", ""))
                if own != before:
                    continue
            if response.status not in _REDIRECTS:
                yield response
                return
            trusted = exchange.reached
            url = _joined(url, response.headers.get("location", ""))
            hop += 1
    raise SourceError(f"{shown(url)} redirects more than {_MAX_REDIRECTS} times")


def speaks_tls(host: str, limits: Limits) -> bool:
    """Tell whether a server is to be spoken to over TLS: only one that may be without it and has none is not."""
    parts = _split(f"https://{host}")
    if not may_be_plain(parts, limits) or _proxy(parts):
        return True
    probe = ssl.create_default_context()
    # Nothing is said over this connection; the next one proves who the server is.
    probe.check_hostname, probe.verify_mode = False, ssl.CERT_NONE
    timeout_s = min(SILENCE_S, limits.left_s(f"the connection to {host}"))
    try:
        with (
            connect(parts.hostname or "", parts.port or 443, timeout_s, None, checked=False) as plain,
            probe.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except ssl.SSLError:
        return False
    except OSError:
        # A registry without TLS and without a port in its name is at port 80.
        return parts.port is not None


@contextmanager
def breaking(url: str, limits: Limits) -> Iterator[None]:
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
        timeout_s = min(SILENCE_S, self.limits.left_s(f"the download of {shown(self.url)}"))
        proxy = _proxy(parts)
        if proxy and self.checked:
            check_literal(host)
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
            connection.sock = trust().wrap_socket(connection.sock, server_hostname=host)
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


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise SourceError(f"{shown(url)} redirects to what is no web address") from error


def _proxy(parts: SplitResult) -> SplitResult | None:
    named = urllib.request.getproxies().get(parts.scheme, "")
    if not named or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    try:
        proxy = urlsplit(named if "//" in named else f"//{named}")
        usable = proxy.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SourceError(f"the proxy that the environment names for {parts.scheme} is no address")
    return proxy


def _credentials(parts: SplitResult, header: str = "Authorization") -> dict[str, str]:
    if parts.username is None:
        return {}
    return {header: basic(unquote(parts.username), unquote(parts.password or ""))}
