"""One of several processes that share a quota: makes calls for as long as it is told, and writes a line for each.

    python -m tests.redis.worker --redis URL --base-url URL [--tasks 16] [--seconds 20] [--bulk] [--every SECONDS]

A line says when the answer came (seconds of the machine's monotonic clock) and how long the call had waited for its slot,
or what error it met. `--every` has a call begin at random moments, so many seconds apart on average, instead of `--tasks`
that call without a pause.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import time
from uuid import uuid4

from recall_async import Priority, Quota, RecallError, RecallSession
from recall_async.call import Call
from recall_async.limits.redis import RedisQuotaStore
from recall_async.resources.calendar_events import schedule_request


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--per", type=float, default=6.0)
    parser.add_argument("--burst", type=int)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--bulk", action="store_true")
    parser.add_argument("--every", type=float)
    options = parser.parse_args()
    store = RedisQuotaStore.from_url(options.redis, longest_request=3.0)
    quota = Quota(options.limit, options.per, burst=options.burst)
    async with RecallSession(
        "0123456789abcdef",
        base_url=options.base_url,
        workspace="w",
        quotas={"calendar_events.schedule_bot": quota},
        quota_store=store,
        timeout=3.0,
    ) as recall:
        end = time.monotonic() + options.seconds

        async def one_call() -> None:
            priority = Priority.BULK if options.bulk else Priority.INTERACTIVE
            call = Call(schedule_request(uuid4(), str(uuid4())), priority, math.inf, recall._client.policy)
            line: dict[str, object] = {}
            try:
                await recall._client.perform(call)
            except RecallError as error:
                line["error"] = repr(error)
            line |= {"at": time.monotonic(), "waited": call.waited, "attempts": call.attempts}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

        async def caller() -> None:
            while time.monotonic() < end:
                await one_call()

        async with asyncio.TaskGroup() as calls:
            if options.every is None:
                for _ in range(options.tasks):
                    calls.create_task(caller())
            while options.every is not None and time.monotonic() < end:
                await asyncio.sleep(random.expovariate(1 / options.every))
                calls.create_task(one_call())
        throttled = recall.statistics()["calendar_events.schedule_bot"].throttled
        sys.stdout.write(json.dumps({"throttled": throttled}) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
