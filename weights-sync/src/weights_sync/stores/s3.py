"""Amazon's S3 and the servers that speak like it: the variables of AWS and of KServe, and AWS's files."""

import configparser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from weights_sync.errors import SourceError

if TYPE_CHECKING:
    from obstore.store import S3Config

_TRUE = frozenset({"1", "true", "yes"})
_FALSE = frozenset({"0", "false", "no"})


def s3_config(environment: Mapping[str, str], bucket: str) -> "S3Config":
    """Return what KServe's secrets and AWS's files say of S3, in the names of the store."""
    config: S3Config = {}
    for option, name in (
        ("access_key_id", "AWS_ACCESS_KEY_ID"),
        ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ("session_token", "AWS_SESSION_TOKEN"),
    ):
        if environment.get(name):
            config[option] = environment[name]  # type: ignore[literal-required] # one of three above
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if not config and not environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        stated = _aws_profile(environment)
        region = region or stated.pop("region", None)
        config.update(stated)  # type: ignore[typeddict-item] # of the same three names
    if region:
        config["region"] = region
    if _is(environment, "awsAnonymousCredential"):
        config["skip_signature"] = True
    endpoint = _s3_endpoint(environment)
    if _is(environment, "S3_USE_ACCELERATE"):
        endpoint, virtual = "https://s3-accelerate.amazonaws.com", True
    else:
        virtual = _is(environment, "S3_USER_VIRTUAL_BUCKET")
    if virtual:
        config["virtual_hosted_style_request"] = True
    if endpoint and virtual:
        # The store takes the endpoint of a bucket with a name of its own to be that name.
        parts = urlsplit(endpoint)
        endpoint = parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()
    if endpoint:
        config["endpoint"] = endpoint
    return config


def _s3_endpoint(environment: Mapping[str, str]) -> str:
    endpoint = environment.get("AWS_ENDPOINT_URL") or environment.get("S3_ENDPOINT", "")
    if endpoint and "://" not in endpoint:
        plain = environment.get("S3_USE_HTTPS", "1").lower() in _FALSE
        endpoint = f"{'http' if plain else 'https'}://{endpoint}"
    # That one redirects to the region's; the store knows the region's by itself.
    return "" if endpoint.rstrip("/") == "https://s3.amazonaws.com" else endpoint


def _aws_profile(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what AWS's files say of the profile in use."""
    home = Path(environment.get("HOME") or "~").expanduser() / ".aws"
    profile = environment.get("AWS_PROFILE") or "default"
    stated: dict[str, str] = {}
    for variable, name, section in (
        ("AWS_CONFIG_FILE", "config", profile if profile == "default" else f"profile {profile}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", profile),
    ):
        file = environment.get(variable) or str(home / name)
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, ValueError) as error:
            raise SourceError(f"can not read the credentials in {file}") from error
        if parser.has_section(section):
            stated.update(parser[section])
    options = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "region": "region",
    }
    return {option: stated[key] for key, option in options.items() if key in stated}


def checks_certificates(environment: Mapping[str, str]) -> bool:
    """Tell whether the server has to prove who it is."""
    return environment.get("S3_VERIFY_SSL", "").lower() not in _FALSE


def _is(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in _TRUE
