"""The function of docs/lambda.md, called as AWS calls it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from recall_async.sandbox import RecallSandbox
from recall_async.webhooks import sign
from tests.web.conftest import SECRET, program
from tests.web.test_backends import upcoming

pytestmark = pytest.mark.recall_sandbox(events=60, calendars=2, quota_scale=20)


class Context:
    """What a function knows of its own time limit."""

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch, recall_sandbox: RecallSandbox) -> Any:
    monkeypatch.setenv("RECALL_API_KEY", recall_sandbox.api_key)
    monkeypatch.setenv("RECALL_BASE_URL", recall_sandbox.url)
    monkeypatch.setenv("RECALL_WEBHOOK_SECRET", SECRET)
    namespace: dict[str, Any] = {"__name__": "function"}
    exec(compile(program("lambda.md"), "lambda.md", "exec"), namespace)
    return namespace["handler"]


@pytest.fixture
def delivery(recall_sandbox: RecallSandbox) -> bytes:
    data = {"calendar_id": upcoming(recall_sandbox)[0]["calendar_id"], "last_updated_ts": "2020-01-01T00:00:00Z"}
    return json.dumps({"event": "calendar.sync_events", "data": data}).encode()


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("lists", [False, True])
def test_delivery(handler: Any, delivery: bytes, recall_sandbox: RecallSandbox, encoded: bool, lists: bool) -> None:
    """A delivery would be turned away because of how its body or headers are written."""
    headers = sign(delivery, SECRET)
    event: dict[str, Any] = {
        "headers": {} if lists else headers,
        "body": base64.b64encode(delivery).decode() if encoded else delivery.decode(),
        "isBase64Encoded": encoded,
    }
    if lists:
        event["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    assert handler(event, Context()) == {"statusCode": 204}
    assert recall_sandbox.snapshot()["bots"]


def test_others(handler: Any, delivery: bytes, recall_sandbox: RecallSandbox) -> None:
    """A forged delivery would be believed, or one that failed would be forgotten."""
    forged = {"headers": sign(delivery, SECRET), "body": delivery.decode() + " "}
    assert handler(forged, Context())["statusCode"] == 400
    assert handler({"headers": sign(b"{}", SECRET), "body": "{}"}, Context()) == {"statusCode": 204}
    for stray in ({}, {"headers": None, "body": None}, {"headers": {}, "body": "é", "isBase64Encoded": True}):
        assert handler(stray, Context())["statusCode"] == 400
    assert handler({**forged, "body": "x", "isBase64Encoded": True}, Context())["statusCode"] == 400
    recall_sandbox.fault("calendar_events.list", status=401)
    event = {"headers": sign(delivery, SECRET), "body": delivery.decode()}
    assert handler(event, Context()) == {"statusCode": 503, "body": "AuthenticationError"}


def test_calendars_that_are_reconnected_or_gone(handler: Any, delivery: bytes, recall_sandbox: RecallSandbox) -> None:
    """A reconnected calendar would stay without bots; the deliveries of a deleted one would be refused for a day, and
    Recall.ai would disable the endpoint."""

    def deliver(event: str, **data: str) -> Any:
        body = json.dumps({"event": event, "data": data}).encode()
        return handler({"headers": sign(body, SECRET), "body": body.decode()}, Context())

    calendar = upcoming(recall_sandbox)[0]["calendar_id"]
    assert deliver("calendar.update", calendar_id=calendar) == {"statusCode": 204}
    assert recall_sandbox.snapshot()["bots"]
    gone = "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"
    since = "2020-01-01T00:00:00Z"
    assert deliver("calendar.sync_events", calendar_id=gone, last_updated_ts=since) == {"statusCode": 204}
    assert deliver("calendar.update", calendar_id=gone) == {"statusCode": 204}
    recall_sandbox.fault("calendar_events.list", status=404)  # as if the server had dropped the cursor
    assert deliver("calendar.update", calendar_id=calendar) == {"statusCode": 503, "body": "NotFoundError"}
