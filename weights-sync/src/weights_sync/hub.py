"""Files of the Hugging Face hub: hf://OWNER/NAME@COMMIT/PATH.

One file of a known commit is one address, so the web's own transfer brings it, resumed and checked like any other.
`HF_ENDPOINT` names another hub or a mirror, `HF_TOKEN` opens what is gated, as everywhere else on the hub.
"""

import json
import os
import re
from urllib.parse import quote

from weights_sync.errors import SourceError
from weights_sync.exchange import Login
from weights_sync.limits import Limits
from weights_sync.web import read

_URI = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w.-]+))?/([^?#]+)", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_ANSWER_BYTES = 8 << 20


def hub_address(uri: str, *, checked: bool) -> str:
    """Return the web address of a file on the hub.

    A branch may hold other bytes tomorrow: unless they are `checked` against a digest, a commit has to be named.
    """
    repository, revision, path = _named(uri).groups()
    if not checked and not _COMMIT.fullmatch(revision or ""):
        raise SourceError(f"{uri[:120]} may change: pin it, as hf://{repository}@COMMIT/{path}, or add #sha256=")
    return f"{_endpoint()}/{repository}/resolve/{revision or 'main'}/{quote(path)}"


def pinned(uri: str, limits: Limits) -> str:
    """Return the URI of a file with the commit that its branch or tag is at now."""
    repository, revision, path = _named(uri).groups()
    revision = revision or "main"
    if _COMMIT.fullmatch(revision):
        return f"hf://{repository}@{revision}/{path}"
    url = f"{_endpoint()}/api/models/{repository}/revision/{quote(revision, safe='')}"
    answer = read(url, limits, _MAX_ANSWER_BYTES, login=hub_login())
    try:
        commit = str(json.loads(answer.data)["sha"])
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"the hub has no {repository} at {revision[:80]}, or keeps it from HF_TOKEN") from error
    if not _COMMIT.fullmatch(commit):
        raise SourceError(f"the hub names no commit for {repository} at {revision[:80]}")
    return f"hf://{repository}@{commit}/{path}"


def _named(uri: str) -> re.Match[str]:
    match = _URI.fullmatch(uri)
    if not match or ".." in match[3].split("/"):
        raise SourceError("a file on the hub is named as hf://OWNER/NAME@COMMIT/PATH/x.onnx")
    return match


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_login() -> Login:
    """Return the login of the environment: its bearer token, if it has one."""
    token = os.environ.get("HF_TOKEN", "")
    return lambda _: {"Authorization": f"Bearer {token}"} if token else {}
