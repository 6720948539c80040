"""Webhooks: verify that a delivery is authentic, and decode it.

Documentation: https://docs.recall.ai/docs/authenticating-requests-from-recallai,
https://docs.recall.ai/docs/calendar-v2-webhooks and https://www.standardwebhooks.com
"""

from .events import (
    BotChange,
    BotLog,
    CalendarSyncEvents,
    CalendarUpdate,
    RecordingChange,
    Subject,
    TranscriptChange,
    WebhookEvent,
)
from .headers import Headers
from .verifier import Prefix, WebhookVerifier, sign

__all__ = [
    "BotChange",
    "BotLog",
    "CalendarSyncEvents",
    "CalendarUpdate",
    "Headers",
    "Prefix",
    "RecordingChange",
    "Subject",
    "TranscriptChange",
    "WebhookEvent",
    "WebhookVerifier",
    "sign",
]
