"""Files of the Hugging Face hub: hf://OWNER/NAME@COMMIT/PATH.

One file of a known commit is one address, so the web's own transfer brings it, resumed and checked like any other.
`HF_ENDPOINT` names another hub or a mirror, `HF_TOKEN` opens what is gated, as everywhere else on the hub.
"""

import os
import re
from urllib.parse import quote

from weights_sync.errors import SourceError
from weights_sync.exchange import Login

_URI = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w.-]+))?/([^?#]+)", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_address(uri: str, *, checked: bool) -> str:
    """Return the web address of a file on the hub.

    A branch may hold other bytes tomorrow: unless they are `checked` against a digest, a commit has to be named.
    """
    match = _URI.fullmatch(uri)
    if not match or ".." in match[3].split("/"):
        raise SourceError("a file on the hub is named as hf://OWNER/NAME@COMMIT/PATH/x.onnx")
    repository, revision, path = match.groups()
    if not checked and not _COMMIT.fullmatch(revision or ""):
        raise SourceError(f"{uri[:120]} may change: pin it, as hf://{repository}@COMMIT/{path}, or add #sha256=")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{endpoint}/{repository}/resolve/{revision or 'main'}/{quote(path)}"


def hub_login() -> Login:
    """Return the login of the environment: its bearer token, if it has one."""
    token = os.environ.get("HF_TOKEN", "")
    return lambda _: {"Authorization": f"Bearer {token}"} if token else {}
