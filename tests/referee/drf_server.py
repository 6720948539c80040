"""A server whose quota nobody here wrote: Django REST Framework's `SimpleRateThrottle`, a strict sliding window.

    python -m tests.referee.drf_server --limit 60 --per 6 --delay 0.2

prints its port and answers every request with a calendar event, up to `limit` in any `per` seconds and with 429 beyond.
A request waits for a random time up to `delay` seconds before it is counted, and for another one behind; a share `slow` of
them takes a second longer. `--seed` draws other times. `GET /report` is not counted: it tells how many were accepted and
rejected, and the `peak`, the most that was accepted in any window. Nor is `GET /requests`, which tells the times of the
accepted and of the rejected.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.referee.throttle import throttle

ROOT = Path(__file__).parents[2]
EVENT = json.loads((ROOT / "tests" / "data" / "event_documented.json").read_bytes())


class Referee:
    """Where a server listens, and what it saw."""

    def __init__(self, url: str) -> None:
        self.url = url

    def report(self) -> dict[str, int]:
        """Requests `accepted` and `rejected`, and the `peak` of any window."""
        with urlopen(f"{self.url}/report") as answer:
            report: dict[str, int] = json.load(answer)
            return report

    def requests(self) -> dict[str, list[float]]:
        """When requests came that were `accepted` and `rejected`, in seconds of the epoch, ascending."""
        with urlopen(f"{self.url}/requests") as answer:
            requests: dict[str, list[float]] = json.load(answer)
            return requests


@contextmanager
def referee(
    *, limit: int = 60, per: float = 6.0, delay: float = 0.2, slow: float = 0.0, seed: int = 7
) -> Iterator[Referee]:
    """A server in a process of its own, so that Django's settings and threads are not those of this one."""
    options = {"--limit": limit, "--per": per, "--delay": delay, "--slow": slow, "--seed": seed}
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "-m", "tests.referee.drf_server", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError(f"the referee did not start, exit status {process.wait()}")
            yield Referee(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def application(limit: int, per: float, delay: float, slow: float, seed: int) -> Callable[..., Any]:
    """The WSGI application. It sets up Django for the whole process."""
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["*"],
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        MIDDLEWARE=[
            "django.middleware.common.CommonMiddleware"
        ],  # writes Content-Length, without which nothing is kept open
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "DEFAULT_PERMISSION_CLASSES": [],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "UNAUTHENTICATED_USER": None,
        },
    )
    django.setup()

    from django.core.handlers.wsgi import WSGIHandler
    from django.urls import re_path
    from rest_framework.request import Request
    from rest_framework.response import Response
    from rest_framework.views import APIView

    before, behind = random.Random(seed), random.Random(seed + 1)
    Throttle = throttle(limit, per)
    accepted, rejected = Throttle.accepted, Throttle.rejected

    class Events(APIView):
        """Any operation on any calendar event."""

        throttle_classes = (Throttle,)

        def check_throttles(self, request: Request) -> None:
            # Half of the slow ones are slow here, half of them behind.
            time.sleep(before.uniform(0, delay) + (before.random() < slow / 2))
            super().check_throttles(request)

        def finalize_response(self, *args: Any, **options: Any) -> Any:
            time.sleep(behind.uniform(0, delay) + (behind.random() < slow / 2))
            return super().finalize_response(*args, **options)

        def get(self, request: Request) -> Response:
            asked = re.search(r"/calendar-events/([0-9a-f-]{36})/", request.path)
            return Response(EVENT | {"id": asked[1]} if asked else EVENT)

        post = delete = get

    class Report(APIView):
        """What was seen."""

        def get(self, request: Request) -> Response:
            peak = most_in_any(per, accepted)
            return Response({"accepted": len(accepted), "rejected": len(rejected), "peak": peak})

    class Requests(APIView):
        """When it was seen."""

        def get(self, request: Request) -> Response:
            return Response({"accepted": accepted, "rejected": rejected})

    settings.ROOT_URLCONF = (
        re_path("^report$", Report.as_view()),
        re_path("^requests$", Requests.as_view()),
        re_path("^api/v2/", Events.as_view()),
    )
    return WSGIHandler()


def most_in_any(per: float, times: list[float]) -> int:
    """The largest number of times, given in ascending order, in any window of `per` seconds."""
    assert all(earlier <= later for earlier, later in pairwise(times))
    first = peak = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - per:
            first += 1
        peak = max(peak, last - first + 1)
    return peak


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=60, help="requests")
    parser.add_argument("--per", type=float, default=6.0, help="seconds")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds at most, before and behind the counting")
    parser.add_argument("--slow", type=float, default=0.0, help="share of requests that take a second longer")
    parser.add_argument("--seed", type=int, default=7, help="of the delays")
    options = parser.parse_args()
    handler = application(options.limit, options.per, options.delay, options.slow, options.seed)

    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

    class Server(ThreadedWSGIServer):
        request_queue_size = 1024  # a whole quota may connect at once

    class Handler(WSGIRequestHandler):
        def log_message(self, *args: object) -> None:
            """Say nothing: the port is all that is to be read."""

    server = Server(("127.0.0.1", 0), Handler)
    server.set_app(handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
