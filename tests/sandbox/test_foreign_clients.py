"""Clients that nobody here wrote, as they talk to the API: no slash at the end, a raw key, forms, numbers as text."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from recall_async.sandbox import RecallSandbox

JSON = dict[str, Any]
CALENDAR = {
    "platform": "microsoft_outlook",
    "oauth_client_id": "id",
    "oauth_client_secret": "",  # as forms send what was left empty
    "oauth_refresh_token": "refresh",
    "oauth_client_certificate": "-----BEGIN CERTIFICATE-----",
    "oauth_client_private_key": "-----BEGIN PRIVATE KEY-----",
    "metadata": {"user": "7"},
}


def raw_key_without_slash(sandbox: RecallSandbox, stack: ExitStack) -> Callable[..., tuple[int, Any]]:
    """As the vendor's own samples do it: the bare key, and paths without their last slash."""

    def call(method: str, path: str, document: JSON | None = None) -> tuple[int, Any]:
        body = None if document is None else json.dumps(document).encode()
        headers = {"Authorization": sandbox.api_key, "accept": "application/json", "content-type": "application/json"}
        request = urllib.request.Request(f"{sandbox.url}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                text = response.read()
                return response.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    return call


def rest_framework(sandbox: RecallSandbox, stack: ExitStack) -> Callable[..., tuple[int, Any]]:
    """As clients of Django REST Framework do it: slashes, and nested data in a form as JSON text."""
    headers = {"Authorization": f"Token {sandbox.api_key}"}
    http = stack.enter_context(httpx.Client(base_url=sandbox.url, headers=headers))

    def call(method: str, path: str, document: JSON | None = None) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        form = {
            name: json.dumps(value) if isinstance(value, dict) else value for name, value in (document or {}).items()
        }
        with http.stream(method, f"{path}/" + (f"?{query}" if query else ""), data=form) as response:
            text = response.read()
            return response.status_code, json.loads(text) if text else None

    return call


def generated_sdk(sandbox: RecallSandbox, stack: ExitStack) -> Callable[..., tuple[int, Any]]:
    """As a generated SDK does it: every query parameter is there, empty where it was not given."""
    headers = {"authorization": f"Token {sandbox.api_key}"}
    http = stack.enter_context(httpx.Client(base_url=sandbox.url, headers=headers))

    def call(method: str, path: str, document: JSON | None = None) -> tuple[int, Any]:
        names = ("calendar_id", "cursor", "email", "ical_uid", "is_deleted", "platform", "start_time", "status")
        path, _, query = path.partition("?")
        given = dict(urllib.parse.parse_qsl(query))
        params = {**dict.fromkeys(names, ""), **given} if method == "GET" else given
        response = http.request(method, f"{path}/", params=params, json=document if method != "GET" else None)
        return response.status_code, response.json() if response.content else None

    return call


@pytest.mark.parametrize("make", [raw_key_without_slash, rest_framework, generated_sdk])
@pytest.mark.recall_sandbox(events=130, calendars=2, connect_after=0)
def test_a_whole_life(make: Callable[..., Any], recall_sandbox: RecallSandbox) -> None:
    """A client that works with the API does not work with the sandbox."""
    with ExitStack() as stack:
        call = make(recall_sandbox, stack)
        status, calendar = call("POST", "/api/v2/calendars", CALENDAR)
        assert (status, calendar["status"], calendar["metadata"]) == (201, "connecting", {"user": "7"})
        assert call("GET", f"/api/v2/calendars/{calendar['id']}")[1]["status"] == "connected"
        status, page = call("GET", f"/api/v2/calendar-events?calendar_id={calendar['id']}&is_deleted=false")
        assert status == 200
        soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        event = next(event for event in page["results"] if event["meeting_url"] and event["start_time"] > soon)
        path = f"/api/v2/calendar-events/{event['id']}"
        status, scheduled = call("POST", f"{path}/bot", {"deduplication_key": "k", "bot_config": {"bot_name": "Notes"}})
        assert (status, len(scheduled["bots"])) == (200, 1)
        assert call("GET", path)[1] == scheduled
        assert call("DELETE", f"{path}/bot")[1]["bots"] == []
        assert call("PATCH", f"/api/v2/calendars/{calendar['id']}", {"oauth_refresh_token": "new"})[0] == 200
        assert call("DELETE", f"/api/v2/calendars/{calendar['id']}")[0] == 204
        assert call("POST", f"{path}/bot", {})[1].keys() == {"deduplication_key", "bot_config"}
        assert call("GET", "/api/v2/calendar-events?cursor=nonsense") == (404, {"detail": "Invalid cursor."})
