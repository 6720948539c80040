"""An asyncio client for Recall.ai's Calendar V2 API that cannot overrun its request quota."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

# aiohttp takes half a second to import, which `recall-async --help` and a program that only catches errors need not wait
# for: the module of a name is imported when the name is used.
_HOMES = {
    "bot_models": "Bot BotStatusChange Recording",
    "bulk.actions": "Outcome RemoveBot ScheduleBot",
    "bulk.journal": "Journal",
    "bulk.progress": "Progress",
    "bulk.run": "BulkRun",
    "errors": (
        "APIError AttemptTimeoutError AuthenticationError BadRequestError BotAlreadyDispatchedError BotPoolExhaustedError "
        "ConfigurationError ConflictError ConnectionFailedError DeadlineExceededError EventEndedError "
        "InsufficientCreditError JournalError NotFoundError QuotaStoreUnavailableError RateLimitedError RecallError "
        "RequestBlockedError ResponseDecodeError ServerError ServerUnavailableError SessionClosedError "
        "WebhookDecodeError WebhookVerificationError"
    ),
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
"""Where the names of `__all__` are defined. Type checkers read them further down."""
_EXTRAS = {"jobs": "JobQueue", "limits.redis": "RedisQuotaStore"}
"""Names that need an extra, and say so; `from recall_async import *` does without them."""

if TYPE_CHECKING:
    from .bot_models import Bot as Bot
    from .bot_models import BotStatusChange as BotStatusChange
    from .bot_models import Recording as Recording
    from .bulk.actions import Outcome as Outcome
    from .bulk.actions import RemoveBot as RemoveBot
    from .bulk.actions import ScheduleBot as ScheduleBot
    from .bulk.journal import Journal as Journal
    from .bulk.progress import Progress as Progress
    from .bulk.run import BulkRun as BulkRun
    from .errors import APIError as APIError
    from .errors import AttemptTimeoutError as AttemptTimeoutError
    from .errors import AuthenticationError as AuthenticationError
    from .errors import BadRequestError as BadRequestError
    from .errors import BotAlreadyDispatchedError as BotAlreadyDispatchedError
    from .errors import BotPoolExhaustedError as BotPoolExhaustedError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import ConflictError as ConflictError
    from .errors import ConnectionFailedError as ConnectionFailedError
    from .errors import DeadlineExceededError as DeadlineExceededError
    from .errors import EventEndedError as EventEndedError
    from .errors import InsufficientCreditError as InsufficientCreditError
    from .errors import JournalError as JournalError
    from .errors import NotFoundError as NotFoundError
    from .errors import QuotaStoreUnavailableError as QuotaStoreUnavailableError
    from .errors import RateLimitedError as RateLimitedError
    from .errors import RecallError as RecallError
    from .errors import RequestBlockedError as RequestBlockedError
    from .errors import ResponseDecodeError as ResponseDecodeError
    from .errors import ServerError as ServerError
    from .errors import ServerUnavailableError as ServerUnavailableError
    from .errors import SessionClosedError as SessionClosedError
    from .errors import WebhookDecodeError as WebhookDecodeError
    from .errors import WebhookVerificationError as WebhookVerificationError
    from .jobs import JobQueue as JobQueue
    from .limits.contract import LaneStatistics as LaneStatistics
    from .limits.quota import Priority as Priority
    from .limits.quota import Quota as Quota
    from .limits.redis import RedisQuotaStore as RedisQuotaStore
    from .models import Calendar as Calendar
    from .models import CalendarAccessToken as CalendarAccessToken
    from .models import CalendarEvent as CalendarEvent
    from .models import CalendarEventBot as CalendarEventBot
    from .models import MeetingURL as MeetingURL
    from .models import Page as Page
    from .outage import Outage as Outage
    from .platforms import Attendee as Attendee
    from .resources.tags import tagged as tagged
    from .retry import RetryPolicy as RetryPolicy
    from .sandbox.embedded import RecallSandbox as RecallSandbox
    from .session import RecallSession as RecallSession
    from .settings import Region as Region
    from .stopping import StopSignal as StopSignal
    from .sync.decide import Decision as Decision
    from .sync.deduplication import Deduplication as Deduplication
    from .sync.deduplication import KeyTemplate as KeyTemplate
    from .sync.history import FileHistory as FileHistory
    from .sync.plan import Plan as Plan
    from .sync.policy import BotSpec as BotSpec
    from .sync.policy import RecordingPolicy as RecordingPolicy
    from .sync.syncer import CalendarSyncer as CalendarSyncer
    from .sync.watermarks import FileWatermarks as FileWatermarks
    from .sync.watermarks import MemoryWatermarks as MemoryWatermarks
    from .sync.watermarks import RedisWatermarks as RedisWatermarks
    from .version import __version__ as __version__
    from .webhooks import WebhookEvent as WebhookEvent
    from .webhooks import WebhookVerifier as WebhookVerifier
    from .webhooks.latest import FileLatest as FileLatest
    from .webhooks.latest import Latest as Latest
    from .webhooks.latest import MemoryLatest as MemoryLatest
    from .webhooks.latest import RedisLatest as RedisLatest
else:
    _homes = {**_HOMES, **_EXTRAS, "version": "__version__"}
    _home_of = {name: home for home, names in _homes.items() for name in names.split()}
    __all__ = sorted(name for names in _HOMES.values() for name in names.split())

    def __getattr__(name):
        if name not in _home_of:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(_import_module(f".{_home_of[name]}", __name__), name))

    def __dir__():
        return sorted(_home_of)
