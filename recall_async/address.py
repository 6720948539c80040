"""Check the URLs that requests are sent to: the base URL, and the links to the next page of a list."""

from __future__ import annotations

import ipaddress
import re

from yarl import URL

from .checks import invalid
from .errors import ConfigurationError

_LINK = re.compile(r"[!-\[\]-~]+")
"""The characters of a URL. Servers and clients disagree about spaces, line breaks and backslashes, so these are refused."""
_HOST = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._-]+)?")
"""A DNS name or an IP address. Clients disagree about other characters, such as an encoded dot, so these are refused."""
_API_PATH = re.compile(r"(?P<base>.*?)/api(?:/v[0-9]+(?:/(?:calendar-events|calendars|bot)(?:/.*)?)?)?/?")
"""The beginning of a request's path, or all of it, as people copy it from the documentation."""


def parse_base_url(text: object) -> URL:
    """Check and return the base URL. Raises `ConfigurationError` if it is invalid or the key must not be sent to it."""
    given = str(text)
    if not given.isprintable() or " " in given:
        raise invalid("base_url", "a URL without spaces and line breaks", given)
    try:
        url = URL(str(URL(given)))  # twice: yarl accepts hosts such as [:b] that it cannot read again
        path, host, has_user = url.path, url.host, url.user is not None or url.password is not None
    except (ValueError, IndexError):  # UnicodeError, too; yarl raises IndexError for some hosts
        raise invalid("base_url", "a URL such as https://us-west-2.recall.ai", given) from None
    if has_user:
        raise ConfigurationError("base_url must not hold a user or a password: the key is sent in a header")
    if url.scheme not in ("http", "https") or not host or not _HOST.fullmatch(url.raw_host or ""):
        raise invalid("base_url", "the URL of a server such as https://us-west-2.recall.ai", given)
    if url.query_string or url.fragment:
        raise invalid("base_url", "a URL without query and fragment: paths are appended to it", given)
    if (api := _API_PATH.fullmatch(path)) is not None:
        right = url.with_path(api["base"])
        raise ConfigurationError(
            f"base_url must not end in {path[len(api['base']) :].rstrip('/')}, because the paths of requests "
            f"are appended to it: use {str(right).rstrip('/')}"
        )
    if url.scheme == "http" and not _is_loopback(host):
        raise invalid("base_url", "an https URL (http is for loopback hosts): the key would be sent unencrypted", given)
    return url.with_path(path.rstrip("/") + "/") if path != "/" else url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def same_origin(here: URL, link: str) -> URL | None:
    """Return the absolute URL of a link that the API sent; `None` if it is invalid or has another origin than `here`."""
    try:
        there = here.join(URL(link, encoded=True))
        origin = [there.scheme, (there.host or "").lower(), there.port]
        # Some servers write http: in their links although they are reached over https.
        unsafe = there.scheme == "http" and there.explicit_port in (None, 80, here.explicit_port)
        if here.scheme == "https" and unsafe:
            origin[0], origin[2] = here.scheme, here.port
        same = origin == [here.scheme, here.host, here.port] and not there.user and not there.password
    except (ValueError, IndexError):  # as above
        same = False
    if not same or not _LINK.fullmatch(link):
        return None
    return URL(f"{here.origin()}{there.raw_path_qs}", encoded=True)
