"""The demo: what the server saw must be what the client believes."""

from __future__ import annotations

import json

import pytest

from recall_async.sandbox import RecallSandbox


def test_demo(run) -> None:
    """The first thing that anybody tries would fail, or count other things than the server."""
    document = json.loads(run("demo", "--events", "60", "--pace", "greedy", "--json").stdout)
    assert document["agree"] is True
    server, client = document["server"], document["client"]
    assert {name: server[name] for name in client} == client
    assert server["events"] == 60
    assert 30 < server["bots"] + server["sharing"] == server["peak"] < 60
    assert (server["throttled"], document["limit"]) == (0, 600)


def test_demo_without_events(run) -> None:
    """A demo of nothing would divide by zero."""
    result = run("demo", "--events", "0")
    assert result.exit_code == 0
    assert "Server and client agree." in result.stdout


@pytest.mark.parametrize(("events", "agreement"), [(0, "agree."), (1, "do NOT agree.")])
def test_disagreement_is_a_failure(run, monkeypatch: pytest.MonkeyPatch, events: int, agreement: str) -> None:
    """The demo would say that all is well whatever the server saw."""
    original = RecallSandbox.__enter__

    def with_more_events(self: RecallSandbox) -> RecallSandbox:
        sandbox = original(self)
        monkeypatch.setattr(
            "recall_async.cli.demo._of_report", lambda r: {**of_report(r), "events": r["events"] + events}
        )
        return sandbox

    from recall_async.cli.demo import _of_report as of_report

    monkeypatch.setattr(RecallSandbox, "__enter__", with_more_events)
    result = run("demo", "--events", "20", "--pace", "greedy")
    assert result.exit_code == events
    assert agreement in result.stdout
