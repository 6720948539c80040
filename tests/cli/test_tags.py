"""`--tag` of `plan` and `sync`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recall_async.cli.status import Status
from recall_async.sandbox import RecallSandbox


@pytest.mark.recall_sandbox(events=60, calendars=2, quota_scale=100)
def test_a_changed_configuration_is_sent_to_tagged_bots(run, recall_sandbox: RecallSandbox, tmp_path: Path) -> None:
    """A team that changes its bot's name has to send all bots again, or none gets the new name."""
    policy, out = tmp_path / "policy.toml", tmp_path / "plan.json"
    policy.write_text('[bot_config]\nbot_name = "One"\n')
    assert run("sync", "--policy", str(policy), "--tag").exit_code == Status.DONE
    bots = {bot["id"] for bot in recall_sandbox.snapshot()["bots"]}
    assert run("plan", "--policy", str(policy), "--tag").exit_code == Status.DONE
    policy.write_text('[bot_config]\nbot_name = "Two"\n')
    assert run("plan", "--policy", str(policy)).exit_code == Status.DONE
    shown = run("plan", "--policy", str(policy), "--tag", "--out", str(out))
    assert shown.exit_code == Status.CHANGES
    decisions = json.loads(out.read_text())["decisions"]
    assert sum(decision.get("reason") == "new configuration" for decision in decisions) == len(bots)
    assert run("apply", str(out)).exit_code == Status.DONE
    after = recall_sandbox.snapshot()["bots"]
    assert {bot["id"] for bot in after} == bots
    assert {bot["config"]["bot_name"] for bot in after} == {"Two"}
    assert run("plan", "--policy", str(policy), "--tag").exit_code == Status.DONE
