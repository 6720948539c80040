"""A file that a command writes is none of those that it reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

POLICY = 'title_excludes = ["1:1"]\n'
CASES = {
    "plan over its policy": ("plan --policy {policy} --out {policy}", "--policy and --out"),
    "plan over a link to its policy": ("plan --policy {policy} --out {link}", "--policy and --out"),
    "plan over its key": ("plan --policy {policy} --api-key-file {key} --out {key}", "--api-key-file and --out"),
    "history in the policy": ("sync --policy {policy} --history {policy}", "--policy and --history"),
    "history in the plan that is made": ("plan --policy {policy} --history {new} --out {new}", "--history and --out"),
    "results in the plan": ("apply {plan} --results {plan}", "PLAN and --results"),
    "history in the plan": ("apply {plan} --history ./{plan}", "PLAN and --history"),
    "history in the results": ("apply {plan} --results {new} --history {link_of_new}", "--results and --history"),
    "results in the configuration": ("bulk {actions} --results {plan} --bot-config {plan}", "--bot-config and --results"),
    "results in the actions": ("bulk {actions} --results {actions}", "ACTIONS and --results"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "named"), CASES.values(), ids=CASES)
def test_one_file_twice(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, named: str) -> None:
    """A slip of the pen overwrites the policy, the plan, or the file with the key."""
    monkeypatch.chdir(tmp_path)
    for name, content in (("policy.toml", POLICY), ("key", "sandbox-key"), ("plan.json", "{}"), ("actions.jsonl", "")):
        Path(name).write_text(content)
    Path("link").symlink_to("policy.toml")
    Path("link_of_new").symlink_to("new.json")
    names = {path.stem: path.name for path in tmp_path.iterdir()} | {"new": "new.json"}
    result = run(*words.format(**names).split())
    assert result.exit_code == 2
    assert f"{named} are the same file" in result.stderr
    assert Path("policy.toml").read_text() == POLICY
    assert Path("key").read_text() == "sandbox-key"
    assert not Path("new.json").exists()


def test_two_files_and_devices_are_no_mistake(run, tmp_path: Path) -> None:
    """A copy counts as the same file, or a command that throws its output away is refused."""
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    shutil.copy(policy, tmp_path / "copy")
    for out in (tmp_path / "copy", Path("/dev/null")):
        assert run("plan", "--policy", str(policy), "--out", str(out)).exit_code == 10
