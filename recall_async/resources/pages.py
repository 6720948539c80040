"""Following a list from page to page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from yarl import URL

from ..caller import Caller
from ..errors import ResponseDecodeError
from ..limits.quota import Priority
from ..operations import Operation


async def follow(
    caller: Caller, operation: Operation, url: URL, *, priority: Priority, deadline: float | None
) -> AsyncIterator[Any]:
    """Every object of a list. `next` is a full URL, followed as it is: https://docs.recall.ai/reference/pagination

    A list that cannot be read to its end raises; it never just ends.
    """
    until = caller.until(deadline)
    seen: set[URL] = set()
    while True:
        seen.add(url)
        left = max(0.0, until - asyncio.get_running_loop().time())
        page = await caller.call(operation, url, priority=priority, deadline=left)
        for item in page.results:
            yield item
        if page.next is None:
            return
        try:
            url = caller.transport.same_origin(page.next)
            if url in seen:
                raise ValueError(f"the pages go round in a circle, page {len(seen)} leads back to an earlier one")
        except ValueError as error:
            raise ResponseDecodeError(
                f"{operation.name}: {error}", operation=operation.name, attempts=len(seen)
            ) from None
