"""Google's Cloud Storage: a file of credentials, the machine's identity, or none where there is no way to any."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import GCSConfig

_LOGINS = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_BEARER_TOKEN", "GCE_METADATA_")
_ADC = Path(".config", "gcloud", "application_default_credentials.json")


def gcs_config(environment: Mapping[str, str]) -> "GCSConfig":
    """Return what is to be said beyond the variables that the store reads itself, in its names."""
    config: GCSConfig = {}
    emulator = environment.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    if base := emulator or environment.get("GOOGLE_BASE_URL"):
        config["base_url"] = base
    stated = any(name.startswith(_LOGINS) for name, value in environment.items() if value)
    known = Path(environment.get("HOME") or "~").expanduser() / _ADC
    if emulator or not (stated or known.is_file() or _has_metadata_server()):
        config["skip_signature"] = True
    return config


def _has_metadata_server() -> bool:
    try:
        return bool(socket.getaddrinfo("metadata.google.internal", 80))
    except OSError:
        return False
