"""Where requests are sent, and with which key: from the arguments of a session, otherwise from the environment."""

from __future__ import annotations

import os
from enum import StrEnum

from yarl import URL

from . import checks
from .address import parse_base_url
from .errors import ConfigurationError
from .secrecy import Secret


class Region(StrEnum):
    """The region of a workspace. Each region has its own API keys: https://docs.recall.ai/docs/regions"""

    US_EAST_1 = "us-east-1"
    US_WEST_2 = "us-west-2"
    EU_CENTRAL_1 = "eu-central-1"
    AP_NORTHEAST_1 = "ap-northeast-1"

    @property
    def base_url(self) -> str:
        """The base URL of the region's API."""
        return f"https://{self.value}.recall.ai"


def sealed(key: object) -> object:
    """Wrap the key so that no representation shows it; for a value that is not text, return only its type."""
    return Secret(key) if isinstance(key, str) else None if key is None else type(key)


def api_key_of(key: object) -> Secret:
    """Check and return the API key, which `sealed` returned; `None` for that of the environment."""
    name = "api_key"
    if key is None:
        name = "RECALL_API_KEY"
        if "RECALL_API_KEY" not in os.environ:
            raise ConfigurationError("no API key: pass api_key, or set RECALL_API_KEY")
        key = Secret(os.environ["RECALL_API_KEY"])
    if not isinstance(key, Secret):
        raise ConfigurationError(f"api_key must be a string, got {getattr(key, '__name__', key)}")
    if key[:6].lower() == "token ":  # the form in the header, whose scheme has no case
        key = Secret(key[6:].lstrip(" "))
    if not key.strip():
        raise ConfigurationError(f"{name} must not be empty: it is the API key")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigurationError(f"{name} must not contain line breaks, spaces or other characters that no API key has")
    return key


def base_url_of(region: Region | str | None, base_url: str | None) -> URL:
    """Return the API's base URL. Arguments take precedence over the environment."""
    named = _region_of(region)
    if not base_url and not region:
        base_url = os.environ.get("RECALL_BASE_URL")
    return parse_base_url(base_url or named.base_url)


def _region_of(given: Region | str | None) -> Region:
    name = given or os.environ.get("RECALL_REGION") or Region.US_EAST_1
    try:
        return Region(name)
    except ValueError:
        raise checks.invalid("region" if given else "RECALL_REGION", f"one of {', '.join(Region)}", name) from None
