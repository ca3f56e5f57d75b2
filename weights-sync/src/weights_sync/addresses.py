"""Connections to a host, by an address that may be connected to."""

import ipaddress
import socket
from urllib.parse import SplitResult

from weights_sync.errors import SourceError
from weights_sync.limits import Limits

Address = tuple[str, int]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last four bytes are an IPv4 address."""


def connect(host: str, port: int, timeout_s: float, trusted: Address | None, *, checked: bool) -> socket.socket:
    """Return a connection to a host; where `checked`, to a public address or to the `trusted` one.

    The address that was checked is the one connected to: a name that resolves to something else later gains nothing.
    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if checked and not is_public(str(address[0])) and (address[0], address[1]) != trusted:
            raise _private(host, str(address[0]))
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(timeout_s)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure or OSError("the name has no address")


def check_literal(host: str) -> None:
    """Refuse a host that is a private address by its name already, for a proxy that would connect to it."""
    try:
        public = host != "localhost" and is_public(host)
    except ValueError:
        return  # a name: only the proxy knows its address
    if not public:
        raise _private(host, host)


def _private(host: str, address: str) -> SourceError:
    return SourceError(f"a redirect leads to {host}, whose address {address} is private: allow it with --allow-private")


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the internet, not to this machine, this network or no one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        translated = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        ip = ip.ipv4_mapped or ip.sixtofour or translated or ip
    return ip.is_global and not ip.is_multicast


def check_encrypted(parts: SplitResult, shown: str, limits: Limits) -> None:
    """Refuse plain HTTP that leaves this machine, unless that is allowed."""
    if parts.scheme != "https" and not may_be_plain(parts, limits):
        raise SourceError(f"{shown} is not encrypted: use https, or allow plain HTTP with --allow-http")


def may_be_plain(parts: SplitResult, limits: Limits) -> bool:
    """Tell whether plain HTTP to a host stays on this machine, or is allowed."""
    return limits.allow_http or _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
