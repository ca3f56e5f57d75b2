"""The certificate authorities that a cluster adds to those of the system."""

import os
import ssl
from functools import cache
from pathlib import Path

from weights_sync.errors import SourceError


def added_authorities() -> Path | None:
    """Return the file of a cluster's own authorities, where KServe mounts one (`caBundleConfigMapName`)."""
    if not os.environ.get("CA_BUNDLE_CONFIGMAP_NAME"):
        return None
    return Path(os.environ.get("CA_BUNDLE_VOLUME_MOUNT_POINT") or "/etc/ssl/custom-certs", "cabundle.crt")


def read_authorities(file: Path) -> bytes:
    """Return the certificates in a file, as PEM."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise SourceError(f"can not read the certificate authorities {file}: {error.strerror}") from error


def trust() -> ssl.SSLContext:
    """Return what servers of the web have to prove themselves against."""
    return _trust(added_authorities())


@cache
def _trust(added: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if added:
        try:
            context.load_verify_locations(cadata=read_authorities(added).decode())
        except (ssl.SSLError, ValueError) as error:
            raise SourceError(f"the certificate authorities {added} are no PEM certificates") from error
    return context
