"""Who we are to a registry: the files in which Docker and Kubernetes keep logins, and the tokens they are traded for.

The dance is the one of the Docker registry's token specification: a 401 names a realm, a service and a scope; the realm
trades a user and a password, or nothing where reading is free, for a token that opens the scope for some minutes.
"""

import http.client
import json
import os
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from weights_sync.errors import SourceError
from weights_sync.exchange import Login, basic, shown
from weights_sync.limits import Limits
from weights_sync.web import read

_MAX_TOKEN_BYTES = 1 << 20
_PARAMETER = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def registry_login(registry: str, repository: str, limits: Limits) -> Login:
    """Return the login for a repository: what the files say, traded for a token where the registry wants one."""
    user, password = stored_login(registry, repository)

    def login(challenge: str) -> Mapping[str, str]:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "bearer":
            stated = dict(_PARAMETER.findall(rest))
            return {"Authorization": f"Bearer {_token(registry, stated, (user, password), limits)}"}
        return {"Authorization": basic(user, password)} if kind.lower() == "basic" and user else {}

    return login


def stored_login(registry: str, repository: str) -> tuple[str, str]:
    """Return the user and password for a repository, empty where there are none.

    Asked are `DOCKER_CONFIG`, a folder or a mounted image pull secret; then `REGISTRY_AUTH_FILE`, as other tools of
    containers have it; then `~/.docker`. An entry for a part of the registry goes before one for all of it.
    """
    names = [registry]
    for part in repository.split("/"):
        names.append(f"{names[-1]}/{part}")
    if registry in _HUB:
        names[:0] = sorted(_HUB)
    for file in _files():
        logins = {_plain(name): entry for name, entry in _read_logins(file).items()}
        for name in reversed(names):
            if name in logins:
                return _pair(logins[name], file)
    return "", ""


def _files() -> list[Path]:
    found = [Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")]
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        found.insert(0, Path(named))
    files = [place / name for place in found for name in ("config.json", ".dockerconfigjson")] + found
    return [file for file in files if file.is_file()]


def _read_logins(file: Path) -> dict[str, Any]:
    try:
        stated = json.loads(file.read_bytes())
        logins = stated.get("auths", {})
    except OSError as error:
        raise SourceError(f"can not read the logins in {file}: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise SourceError(f"the logins in {file} are no JSON that Docker writes") from error
    return logins if isinstance(logins, dict) else {}


def _plain(name: str) -> str:
    """Return the registry, and its part, that an entry is for: `https://index.docker.io/v1/` is one for the hub."""
    return re.sub(r"/v[12]/?$", "", name.partition("://")[2] or name).rstrip("/")


def _pair(entry: Any, file: Path) -> tuple[str, str]:
    try:
        if "username" in entry:
            return str(entry["username"]), str(entry.get("password", ""))
        user, _, password = b64decode(entry.get("auth", ""), validate=True).decode().partition(":")
    except (Base64Error, ValueError, TypeError, AttributeError) as error:
        raise SourceError(f"a login in {file} is damaged: log in again") from error
    return user, password


def _token(registry: str, stated: Mapping[str, str], pair: tuple[str, str], limits: Limits) -> str:
    realm = stated.get("realm", "")
    query = {name: stated[name] for name in ("service", "scope") if name in stated}
    try:
        parts = urlsplit(realm)
    except ValueError as error:
        raise SourceError(f"{registry} names no address that gives tokens") from error
    url = parts._replace(query=urlencode([*parse_qsl(parts.query), *query.items()])).geturl()
    headers = {"Authorization": basic(*pair)} if pair[0] else {}
    # The address of the realm is the registry's word, as that of a redirect is: it must not lead into this network.
    foreign = parts.hostname != urlsplit(f"//{registry}").hostname
    answer = read(url, limits, _MAX_TOKEN_BYTES, login=lambda _: headers, checked=foreign)
    if answer.status != http.client.OK:
        raise SourceError(f"{shown(url)} gives no token for {registry}: it answered {answer.status}; check the login")
    try:
        found = json.loads(answer.data)
        return str(found.get("token") or found["access_token"])
    except (ValueError, AttributeError, KeyError) as error:
        raise SourceError(f"{shown(url)} answered with something that is no token") from error
