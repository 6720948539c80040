"""What is released: its metadata, and the versions that it is tested with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
USERS = ("cli", "redis", "otel")
"""Extras that users install; `speedups` is left out, because its lowest version has no wheel for every Python."""


def test_lowest_versions_are_those_of_the_metadata() -> None:
    """CI would test other lower bounds than those that users may install."""
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(line for name in USERS for line in extras.get(name, []))]
    bounds = dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in wanted)  # type: ignore[union-attr]
    lines = (ROOT / ".ci/lowest.txt").read_text().splitlines()
    constraints = dict(line.split("==") for line in lines if line and not line.startswith("#"))

    def parts(version: str) -> list[int]:
        return [int(part) for part in f"{version}.0.0".split(".")[:3]]

    assert {name: parts(bound) for name, bound in bounds.items()} == {
        name: parts(version) for name, version in constraints.items()
    }


def test_extras_that_pages_name_exist() -> None:
    """A reader who copies `pip install 'recall-async[...]'` gets a warning and not what the page says."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {
        name
        for page in pages
        for group in re.findall(r"(?:recall-async|\.)\[([\w,]+)\]", page.read_text())
        for name in group.split(",")
    }
    assert named - set(PROJECT["optional-dependencies"]) == set()
