"""An asyncio client for Recall.ai's Calendar V2 API that cannot overrun its request quota."""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "APIError",
    "AttemptTimeoutError",
    "Attendee",
    "AuthenticationError",
    "BadRequestError",
    "BotAlreadyDispatchedError",
    "BotPoolExhaustedError",
    "BotSpec",
    "BulkRun",
    "Calendar",
    "CalendarAccessToken",
    "CalendarEvent",
    "CalendarEventBot",
    "CalendarSyncer",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "DeadlineExceededError",
    "Decision",
    "Deduplication",
    "EventEndedError",
    "FileLatest",
    "FileWatermarks",
    "InsufficientCreditError",
    "Journal",
    "JournalError",
    "LaneStatistics",
    "Latest",
    "MeetingURL",
    "MemoryLatest",
    "MemoryWatermarks",
    "NotFoundError",
    "Outcome",
    "Page",
    "Plan",
    "Priority",
    "Progress",
    "Quota",
    "QuotaStoreUnavailableError",
    "RateLimitedError",
    "RecallError",
    "RecallSession",
    "RecordingPolicy",
    "RedisLatest",
    "RedisWatermarks",
    "Region",
    "RemoveBot",
    "RequestBlockedError",
    "ResponseDecodeError",
    "RetryPolicy",
    "ScheduleBot",
    "ServerError",
    "SessionClosedError",
    "WebhookDecodeError",
    "WebhookEvent",
    "WebhookVerificationError",
    "WebhookVerifier",
]

# aiohttp takes half a second to import, which `recall-async --help` and a program that only catches errors need not wait
# for: names are looked up in these modules, the lightest first, when they are used.
_HOMES = (
    "errors",
    "models",
    "webhooks",
    "webhooks.latest",
    "limits.quota",
    "limits.contract",
    "retry",
    "session",
    "bulk.actions",
    "bulk.journal",
    "bulk.progress",
    "sync.deduplication",
    "sync.policy",
    "sync.decide",
    "sync.plan",
    "sync.watermarks",
    "bulk.run",
    "sync.syncer",
)

if TYPE_CHECKING:
    from .bulk.actions import Outcome, RemoveBot, ScheduleBot
    from .bulk.journal import Journal
    from .bulk.progress import Progress
    from .bulk.run import BulkRun
    from .errors import (
        APIError,
        AttemptTimeoutError,
        AuthenticationError,
        BadRequestError,
        BotAlreadyDispatchedError,
        BotPoolExhaustedError,
        ConfigurationError,
        ConflictError,
        ConnectionFailedError,
        DeadlineExceededError,
        EventEndedError,
        InsufficientCreditError,
        JournalError,
        NotFoundError,
        QuotaStoreUnavailableError,
        RateLimitedError,
        RecallError,
        RequestBlockedError,
        ResponseDecodeError,
        ServerError,
        SessionClosedError,
        WebhookDecodeError,
        WebhookVerificationError,
    )
    from .limits.contract import LaneStatistics
    from .limits.quota import Priority, Quota
    from .models import (
        Attendee,
        Calendar,
        CalendarAccessToken,
        CalendarEvent,
        CalendarEventBot,
        MeetingURL,
        Page,
    )
    from .retry import RetryPolicy
    from .session import RecallSession, Region
    from .sync.decide import Decision
    from .sync.deduplication import Deduplication
    from .sync.plan import Plan
    from .sync.policy import BotSpec, RecordingPolicy
    from .sync.syncer import CalendarSyncer
    from .sync.watermarks import FileWatermarks, MemoryWatermarks, RedisWatermarks
    from .webhooks import WebhookEvent, WebhookVerifier
    from .webhooks.latest import FileLatest, Latest, MemoryLatest, RedisLatest
else:

    def __getattr__(name):
        if name in __all__:
            for home in _HOMES:
                found = vars(import_module(f".{home}", __name__))
                if name in found:
                    return globals().setdefault(name, found[name])
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
