"""Read a list page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

from msgspec.structs import force_setattr
from yarl import URL

from ..caller import Client, running_loop
from ..errors import ResponseDecodeError
from ..limits.quota import Priority
from ..models import Page
from ..operations import Request
from ..retry import RetryPolicy
from ..secrecy import Secret

T = TypeVar("T")


async def follow(
    client: Client,
    request: Request[Page[T]],
    *,
    priority: Priority,
    deadline: float | None,
    retry: RetryPolicy | None = None,
) -> AsyncIterator[T]:
    """Yield every object of a list. `next` is a full URL: https://docs.recall.ai/reference/pagination

    Raises if the list cannot be read to its end; it never ends early.
    """
    until, clock = client.until(deadline), running_loop().time
    seen: set[URL] = {client.transport.url(request)}
    while True:
        page = await client.call(request, priority=priority, deadline=max(until - clock(), 0.0), retry=retry)
        # A server may have put the API key into the link: do not keep it in a frame that a traceback shows.
        link = None if page.next is None else Secret(page.next)
        force_setattr(page, "next", None)
        for item in page.results:  # not of a list that outlives the page, which would copy all of it
            yield item
        if link is None:
            return
        request = request.operation.request(link=_next(client, request, link, seen))


def _next(client: Client, request: Request[Any], link: Secret, seen: set[URL]) -> URL:
    try:
        url = client.transport.same_origin(link)
        if url in seen:
            raise ValueError(f"the pages go round in a circle, page {len(seen)} leads back to an earlier one")
    except ValueError as error:
        reason = f"{request.operation.name}: {error}"
    else:
        seen.add(url)
        return url
    raise ResponseDecodeError(reason, operation=request.operation.name, attempts=len(seen))
