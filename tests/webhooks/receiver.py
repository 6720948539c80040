"""A web server that receives webhooks, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def receiver(handle: Handler | web.Application) -> AsyncIterator[str]:
    """Its address, for as long as the context lasts."""
    runner: web.AppRunner | web.ServerRunner
    if isinstance(handle, web.Application):
        runner = web.AppRunner(handle, shutdown_timeout=1.0)
    else:
        runner = web.ServerRunner(web.Server(handle), shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/webhooks"
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Returns once the condition holds, which something outside of this event loop's reach decides."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
