"""What a session and its quotas can be made with, where they lead, and what they refuse."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from recall_async import ConfigurationError, Quota, RecallSession, Region


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": ""},
        {"api_key": " "},
        {"api_key": "key\n"},
        {"api_key": "ke\r\nX-Evil: 1"},
        {"api_key": "ke\x00y"},
        {"api_key": "ke y"},
        {"api_key": "kéy"},
        {"api_key": b"key"},
        {"api_key": 7},
        {"region": "mars-1"},
        {"region": "US-EAST-1"},
        {"region": 7},
        {"region": "mars-1", "base_url": "https://recall.example"},
        {"base_url": "http://us-east-1.recall.ai"},
        {"base_url": "http://localhost.evil.example"},
        {"base_url": "http://127.0.0.1.evil.example"},
        {"base_url": "http://127.0.0.1@evil.example"},
        {"base_url": "http://10.0.0.1"},
        {"base_url": "http://0.0.0.0"},
        {"base_url": "http://[::]"},
        {"base_url": "http://host.docker.internal:8000"},
        {"base_url": "ftp://127.0.0.1"},
        {"base_url": "ws://127.0.0.1"},
        {"base_url": "us-east-1.recall.ai"},
        {"base_url": "//us-east-1.recall.ai"},
        {"base_url": "https://"},
        {"base_url": "https://user:password@recall.example"},
        {"base_url": "https://recall.example/?x=1"},
        {"base_url": "https://recall.example/#x"},
        {"base_url": "https://recall.example:99999"},
        {"base_url": "https://[::1"},
        {"base_url": "https://]"},
        {"base_url": "https://us-west-2.recall.ai%2eevil.example"},
        {"base_url": "https://recall.example%00"},
        {"base_url": "https://[:B1]/recall/"},
        {"base_url": "https://recall.example:B1"},
        {"base_url": "https://recall.example\r\nX-Evil: 1"},
        {"base_url": "https://recall.example/\nx"},
        {"base_url": "https://recall example"},
        {"base_url": 7},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": math.inf},
        {"timeout": "30"},
        {"timeout": None},
        {"timeout": True},
        {"workspace": ""},
        {"workspace": 7},
        {"quotas": {"calendar_events.schedule": Quota(600)}},
        {"quotas": {"calendar_events.schedule_bot": 600}},
        {"quotas": {"calendar_events.schedule_bot": None}},
        {"quotas": {7: Quota(600)}},
        {"quotas": [("calendar_events.schedule_bot", 600)]},
        {"quotas": "calendar_events.schedule_bot"},
        {"quotas": 600},
        {"retry": 5},
        {"retry": False},
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    """Would open a session that leaks its key, counts on another quota than it was told, or fails at its first call."""
    with pytest.raises(ConfigurationError) as caught:
        RecallSession(**{"api_key": "key"} | settings)
    assert isinstance(caught.value, ValueError)
    about = next(iter(settings)).split("_")[-1]
    assert re.search(f"{about}|operation" if about == "quotas" else about, str(caught.value), re.IGNORECASE)
    assert "password" not in str(caught.value).replace("a user or a password", "")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((0,), "limit"),
        ((-1,), "limit"),
        ((1.5,), "limit"),
        (("600",), "limit"),
        ((True,), "limit"),
        ((math.inf,), "limit"),
        ((600, 0), "per"),
        ((600, -1), "per"),
        ((600, math.nan), "per"),
        ((600, math.inf), "per"),
        ((600, "60"), "per"),
        ((600, True), "per"),
        ((600, 60, 0), "burst"),
        ((600, 60, 601), "burst"),
        ((600, 60, 1.5), "burst"),
        ((600, 60, None, -1), "reserve"),
        ((600, 60, None, 600), "reserve"),
        ((600, 60, None, True), "reserve"),
    ],
)
def test_quotas_that_cannot_be(values: tuple[Any, ...], name: str) -> None:
    """Would make a lane that admits nobody, or everybody."""
    with pytest.raises(ConfigurationError, match=name):
        Quota(*values)


@pytest.mark.parametrize(
    ("settings", "variables", "url"),
    [
        ({}, {}, "https://us-east-1.recall.ai/"),
        ({"region": "eu-central-1"}, {}, "https://eu-central-1.recall.ai/"),
        ({"region": Region.US_WEST_2}, {}, "https://us-west-2.recall.ai/"),
        ({}, {"RECALL_REGION": "ap-northeast-1"}, "https://ap-northeast-1.recall.ai/"),
        ({"region": "us-west-2"}, {"RECALL_REGION": "ap-northeast-1"}, "https://us-west-2.recall.ai/"),
        ({}, {"RECALL_BASE_URL": "https://x.example/p"}, "https://x.example/p/"),
        ({"base_url": "https://y.example"}, {"RECALL_BASE_URL": "https://x.example"}, "https://y.example/"),
        ({"base_url": "http://localhost:1"}, {}, "http://localhost:1/"),
        ({"base_url": "http://127.9.9.9:1/"}, {}, "http://127.9.9.9:1/"),
        ({"base_url": "http://[::1]:1"}, {}, "http://[::1]:1/"),
        ({"base_url": "HTTPS://X.EXAMPLE:443//"}, {}, "https://x.example/"),
        ({}, {"RECALL_REGION": "", "RECALL_BASE_URL": ""}, "https://us-east-1.recall.ai/"),
    ],
)
def test_where_a_session_leads(
    settings: dict[str, Any], variables: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would send the key to another region, or take a variable for more than what the program says."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(RecallSession("key", **settings)._client.transport.base_url).rstrip("/") + "/" == url


def test_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would not find the key, or find an empty one, or one that was pasted with a line break."""
    with pytest.raises(ConfigurationError, match="RECALL_API_KEY"):
        RecallSession()
    for wrong in ("", " ", "key\n"):
        monkeypatch.setenv("RECALL_API_KEY", wrong)
        with pytest.raises(ConfigurationError, match="RECALL_API_KEY must"):
            RecallSession()
    monkeypatch.setenv("RECALL_API_KEY", "key")
    assert RecallSession().workspace == RecallSession("key").workspace
