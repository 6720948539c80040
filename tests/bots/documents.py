"""A bot as the API's reference shows it."""

from __future__ import annotations

from typing import Any

BOT: dict[str, Any] = {
    "id": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "meeting_url": {"platform": "zoom", "meeting_id": "81234567890", "meeting_password": "secret"},
    "bot_name": "Notes",
    "join_at": "2025-01-29T23:00:00Z",
    "recording_config": {"transcript": None},
    "status_changes": [
        {"code": "joining_call", "message": None, "created_at": "2025-01-29T23:00:00Z", "sub_code": None},
        {"code": "in_waiting_room", "message": "", "created_at": "2025-01-29T23:00:05Z", "sub_code": ""},
        {"code": "in_call_recording", "message": None, "created_at": "2025-01-29T23:00:10+00:00", "sub_code": None},
        {"code": "call_ended", "message": None, "created_at": "2025-01-29T23:30:00Z", "sub_code": "call_ended_by_host"},
    ],
    "recordings": [
        {
            "id": "4cff97e4-f0c7-4915-b5a0-983238758f28",
            "created_at": "2025-01-29T23:00:10Z",
            "started_at": "2025-01-29T23:00:10Z",
            "completed_at": "2025-01-29T23:30:00Z",
            "expires_at": "2025-02-05T00:00:00Z",
            "status": {"code": "done", "sub_code": None, "updated_at": "2025-01-29T23:31:00Z"},
            "media_shortcuts": {
                "video_mixed": {"id": "v", "data": {"download_url": "https://media.example/v.mp4?token=private"}},
                "transcript": {"id": "t", "data": {"download_url": None}},
                "audio_mixed": None,
            },
            "metadata": {},
        }
    ],
    "calendar_meetings": [],
    "slack_team": None,
    "metadata": {"team": "sales"},
}
