"""What the sandbox makes of meeting URLs and page numbers."""

from __future__ import annotations

from typing import Any

import pytest

from recall_async.sandbox.bots import _page_number, _platform
from recall_async.sandbox.replies import Refusal


@pytest.mark.parametrize(
    ("url", "platform"),
    [
        ({"platform": "zoom", "meeting_id": "1"}, "zoom"),
        ({}, None),
        (None, None),
        ("https://us02web.zoom.us/j/1", "zoom"),
        ("https://notzoom.us/j/1", None),
        ("https://[half/", None),
        ("https://meet.google.com/abc-defg-hij", "google_meet"),
    ],
)
def test_platform_of_a_meeting(url: Any, platform: str | None) -> None:
    """Would name a platform that the meeting is not on, or fail on a URL that is none."""
    assert _platform(url) == platform


def test_page_numbers() -> None:
    """Would answer a page that is not there, or refuse the last."""
    assert [_page_number(text, 3) for text in ("1", "3", "last")] == [1, 3, 3]
    for wrong in ("0", "4", "-1", "x", "", "9" * 12):
        with pytest.raises(Refusal):
            _page_number(wrong, 3)
