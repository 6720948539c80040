"""`next` links and base URLs: the API key goes to no other origin, and nothing foreign is raised."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from yarl import URL

from recall_async.address import parse_base_url, same_origin
from recall_async.errors import ConfigurationError
from tests.fuzz.inputs import check_message

HERE = (
    URL("https://us-west-2.recall.ai/"),
    URL("http://127.0.0.1:8765/"),
    URL("https://proxy.example:8443/recall/"),
    URL("https://[::1]/"),
)


def seeds() -> list[bytes]:
    """Links of the API, and of its mutants."""
    links = [
        "https://us-west-2.recall.ai/api/v2/calendar-events/?cursor=cD0yMDI1&calendar_id=497f6eca",
        "http://us-west-2.recall.ai/api/v2/calendar-events/?cursor=a%2Bb",
        "http://127.0.0.1:8765/api/v1/bot/?page=2",
        "https://proxy.example:8443/recall/api/v2/calendars/?cursor=x",
        "https://[::1]/api/v2/calendars/",
        "//elsewhere.example/api", "/api/v2/calendars/?cursor=a", "?cursor=a", "https://user:pass@us-west-2.recall.ai/",
        "https://us-west-2.recall.ai:443/", "https://us-west-2.recall.ai\\@elsewhere.example/", "https://xn--/",
        "https://us-west-2.recall.ai.:443/", "HTTPS://US-WEST-2.RECALL.AI/../x", "https:us-west-2.recall.ai", "javascript:1",
    ]  # fmt: skip
    return [bytes([number]) + link.encode() for number in range(len(HERE) + 1) for link in links]


def check(data: bytes) -> None:
    """Follow `data` from one of the addresses, which the first byte chooses, or take it for a base URL."""
    number, text = data[0] if data else 0, data[1:].decode("utf-8", "surrogateescape")
    if number % 5 == 4:
        try:
            base = parse_base_url(text)
        except ConfigurationError as error:
            check_message(error)
            return
        assert base.scheme == "https" or base.host in ("localhost", "::1") or str(base.host).startswith("127."), base
        assert (base.user, base.password) == (None, None), base
        assert base.path.endswith("/"), base
        return
    here = HERE[number % 5]
    there = same_origin(here, text)
    if there is None:
        return
    assert str(there).startswith(f"{here.origin()}/"), there
    assert urlsplit(str(there)).netloc.lower() == urlsplit(str(here)).netloc, there
    assert re.fullmatch("[!-~]+", str(there)), there
    assert same_origin(here, str(there)) == there, there
