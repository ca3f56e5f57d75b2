"""Azure's Blob Storage: az://CONTAINER/KEY, and the web addresses https://ACCOUNT.blob.core.windows.net/CONTAINER/KEY."""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult

if TYPE_CHECKING:
    from obstore.store import AzureConfig

_HOSTS = (".blob.core.windows.net", ".blob.storage.azure.net")
_LOGINS = frozenset(
    {
        "AZURE_ACCESS_TOKEN",
        "AZURE_CLIENT_ID",
        "AZURE_CREDENTIAL_TYPE",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_IDENTITY_ENDPOINT",
        "AZURE_MSI_ENDPOINT",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_CLIENT_ID",
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_MASTER_KEY",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_TOKEN",
        "AZURE_USE_AZURE_CLI",
        "AZ_CLIENT_ID",
    }
)
"""Variables that say who asks; without any of them, nobody does: a machine's identity is asked by its type."""


def needs_azure(place: SplitResult, environment: Mapping[str, str]) -> bool:
    """Tell whether a web address is one of Azure's blobs and there are credentials for it."""
    return (place.hostname or "").endswith(_HOSTS) and _has_login(environment)


def container_and_key(place: SplitResult) -> tuple[str, str]:
    """Return the container and the key, as they stand in the URI."""
    path = place.path.lstrip("/")
    if place.scheme == "az":
        return place.netloc, path
    container, _, key = path.partition("/")
    return container, key


def azure_config(environment: Mapping[str, str], place: SplitResult) -> "AzureConfig":
    """Return what connection strings and KServe's secrets say, in the names of the store."""
    text = environment.get("AZURE_STORAGE_CONNECTION_STRING", "")
    stated = dict(pair.partition("=")[::2] for pair in text.split(";") if pair)
    config: AzureConfig = {}
    for option, found in (
        ("account_name", stated.get("AccountName") or environment.get("AZURE_ACCOUNT_NAME")),
        ("account_key", stated.get("AccountKey")),
        ("sas_key", stated.get("SharedAccessSignature")),
        ("endpoint", stated.get("BlobEndpoint") or environment.get("AZURE_SERVICE_URL")),
        ("tenant_id", environment.get("AZ_TENANT_ID")),
        ("client_id", environment.get("AZ_CLIENT_ID")),
        ("client_secret", environment.get("AZ_CLIENT_SECRET")),
        ("token", environment.get("AZURE_ACCESS_TOKEN")),
    ):
        if found:
            config[option] = found  # type: ignore[literal-required] # one of those above
    if place.scheme != "az":
        config["account_name"] = (place.hostname or "").partition(".")[0]
        config["endpoint"] = f"https://{place.netloc}"
        if place.query:
            config["sas_key"] = place.query
    if not _has_login(environment):
        config["skip_signature"] = True
    return config


def _has_login(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in _LOGINS)
