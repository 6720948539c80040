"""An asyncio client for Recall.ai's Calendar V2 API that cannot overrun its request quota."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

__all__ = [
    "APIError",
    "AttemptTimeoutError",
    "Attendee",
    "AuthenticationError",
    "BadRequestError",
    "Bot",
    "BotAlreadyDispatchedError",
    "BotPoolExhaustedError",
    "BotSpec",
    "BotStatusChange",
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
    "FileHistory",
    "FileLatest",
    "FileWatermarks",
    "InsufficientCreditError",
    "Journal",
    "JournalError",
    "KeyTemplate",
    "LaneStatistics",
    "Latest",
    "MeetingURL",
    "MemoryLatest",
    "MemoryWatermarks",
    "NotFoundError",
    "Outage",
    "Outcome",
    "Page",
    "Plan",
    "Priority",
    "Progress",
    "Quota",
    "QuotaStoreUnavailableError",
    "RateLimitedError",
    "RecallError",
    "RecallSandbox",
    "RecallSession",
    "Recording",
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
    "ServerUnavailableError",
    "SessionClosedError",
    "StopSignal",
    "WebhookDecodeError",
    "WebhookEvent",
    "WebhookVerificationError",
    "WebhookVerifier",
    "tagged",
]

# aiohttp takes half a second to import, which `recall-async --help` and a program that only catches errors need not wait
# for: the module of a name is imported when the name is used.
_HOMES = {
    "bot_models": "Bot BotStatusChange Recording",
    "bulk.actions": "Outcome RemoveBot ScheduleBot",
    "bulk.journal": "Journal",
    "bulk.progress": "Progress",
    "bulk.run": "BulkRun",
    "limits.contract": "LaneStatistics",
    "limits.quota": "Priority Quota",
    "models": "Calendar CalendarAccessToken CalendarEvent CalendarEventBot MeetingURL Page",
    "platforms": "Attendee",
    "resources.tags": "tagged",
    "outage": "Outage",
    "retry": "RetryPolicy",
    "sandbox.embedded": "RecallSandbox",
    "session": "RecallSession",
    "settings": "Region",
    "stopping": "StopSignal",
    "sync.decide": "Decision",
    "sync.deduplication": "Deduplication KeyTemplate",
    "sync.history": "FileHistory",
    "sync.plan": "Plan",
    "sync.policy": "BotSpec RecordingPolicy",
    "sync.syncer": "CalendarSyncer",
    "sync.watermarks": "FileWatermarks MemoryWatermarks RedisWatermarks",
    "webhooks": "WebhookEvent WebhookVerifier",
    "webhooks.latest": "FileLatest Latest MemoryLatest RedisLatest",
}
"""Where the names of `__all__` are defined; all others are errors."""
_EXTRAS = {"jobs": "JobQueue", "limits.redis": "RedisQuotaStore"}
"""Names that need an extra, and say so; `from recall_async import *` does without them."""

if TYPE_CHECKING:
    from .bot_models import Bot, BotStatusChange, Recording
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
        ServerUnavailableError,
        SessionClosedError,
        WebhookDecodeError,
        WebhookVerificationError,
    )
    from .jobs import JobQueue as JobQueue
    from .limits.contract import LaneStatistics
    from .limits.quota import Priority, Quota
    from .limits.redis import RedisQuotaStore as RedisQuotaStore
    from .models import Calendar, CalendarAccessToken, CalendarEvent, CalendarEventBot, MeetingURL, Page
    from .outage import Outage
    from .platforms import Attendee
    from .resources.tags import tagged
    from .retry import RetryPolicy
    from .sandbox.embedded import RecallSandbox
    from .session import RecallSession
    from .settings import Region
    from .stopping import StopSignal
    from .sync.decide import Decision
    from .sync.deduplication import Deduplication, KeyTemplate
    from .sync.history import FileHistory
    from .sync.plan import Plan
    from .sync.policy import BotSpec, RecordingPolicy
    from .sync.syncer import CalendarSyncer
    from .sync.watermarks import FileWatermarks, MemoryWatermarks, RedisWatermarks
    from .version import VERSION as __version__  # noqa: F401
    from .webhooks import WebhookEvent, WebhookVerifier
    from .webhooks.latest import FileLatest, Latest, MemoryLatest, RedisLatest
else:

    def __getattr__(name):
        if name == "__version__":
            home, name = "version", "VERSION"
        elif name in __all__ or name in _EXTRAS.values():
            homes = ({**_HOMES, **_EXTRAS}).items()
            home = next((home for home, names in homes if name in names.split()), "errors")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(_import_module(f".{home}", __name__), name))

    def __dir__():
        return sorted([*__all__, *_EXTRAS.values(), "__version__"])
