"""The connection options, which all commands that send requests have, and the session that they describe."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from .. import checks
from ..reading import check_kind, read_file
from .command import ConnectionOption, Decorator
from .numbers import Number

if TYPE_CHECKING:
    import aiohttp

    from ..limits.quota import Quota
    from ..limits.redis import RedisQuotaStore
    from ..session import RecallSession

SHARED_WORKSPACE = "default"
"""The workspace's name where a quota or jobs are shared through Redis, and none is given."""
SMOOTHLY = 60
"""The part of a window that smooth jobs send at once: a second's worth of a minute."""
REDIS_PATIENCE = 30.0
"""Seconds for which a command that does no job waits for a Redis that is away."""
JOB_OPERATIONS = ("calendar_events.schedule_bot", "calendar_events.remove_bot")


@dataclass(frozen=True, slots=True)
class Connection:
    """The values of the connection options."""

    region: str | None = None
    base_url: str | None = None
    workspace: str | None = None
    api_key_file: Path | None = None
    redis: str | None = None
    prefix: str = "recall"
    quota_scale: float | None = None
    timeout: float | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    trust_env: bool = False

    def session(self, *, pace: str | None = None) -> RecallSession:
        """Return a session that is not open yet. With the `pace` of a job, it waits for Redis as long as it takes.

        Raises `click.UsageError` or `ConfigurationError` for invalid options.
        """
        from ..session import RecallSession
        from ..settings import Region

        region = self.region or os.environ.get("RECALL_REGION") or Region.US_EAST_1
        if region not in list(Region):
            raise checks.invalid("region", f"one of {', '.join(Region)}", region)
        base_url = self.base_url
        if not base_url and not self.region:  # an option takes precedence over the environment
            base_url = os.environ.get("RECALL_BASE_URL")
        base_url = base_url or Region(region).base_url
        return RecallSession(
            self._api_key(),
            base_url=base_url,
            workspace=self.shared_workspace if self.redis else self._named_workspace,
            quotas=self.quotas(pace or "auto") if self.quota_scale is not None or pace not in (None, "auto") else None,
            quota_store=self._quota_store(REDIS_PATIENCE if pace is None else None),
            timeout=30.0 if self.timeout is None else self.timeout,
            http=self._http(base_url),
        )

    def quotas(self, pace: str = "auto") -> dict[str, Quota]:
        """Return the quotas of all operations for `--quota-scale` and the pace of a job.

        "greedy" jobs take a whole window at once, "smooth" ones spread all of it, "auto" is the library's default.
        """
        from ..limits.quota import Quota, base_quota
        from ..operations import OPERATIONS

        scale = 1.0 if self.quota_scale is None else checks.number("quota_scale", self.quota_scale)
        quotas = {name: base_quota(name).scaled(scale) for name in OPERATIONS}
        for name in JOB_OPERATIONS:
            limit, per = quotas[name].limit, quotas[name].per
            if pace == "greedy":  # a job that has the workspace to itself leaves no reserve to others
                quotas[name] = Quota(limit, per, burst=limit, reserve=0)
            elif pace == "smooth":
                quotas[name] = Quota(limit, per, burst=max(1, limit // SMOOTHLY))
        return quotas

    @property
    def shared_workspace(self) -> str:
        """The name under which programs share a quota, or jobs, through Redis."""
        return self._named_workspace or SHARED_WORKSPACE

    @property
    def _named_workspace(self) -> str | None:
        return self.workspace or os.environ.get("RECALL_WORKSPACE") or None

    def _api_key(self) -> str | None:
        if self.api_key_file is not None:
            return read_text("api_key_file", self.api_key_file).strip()
        if "RECALL_API_KEY" not in os.environ:
            raise click.UsageError("no API key: set RECALL_API_KEY, or name its file with --api-key-file")
        return None

    def _quota_store(self, patience: float | None) -> RedisQuotaStore | None:
        if not self.redis:
            return None
        from ..limits.redis import RedisQuotaStore

        store = RedisQuotaStore.from_url(self.redis, prefix=self.prefix, patience=patience)
        if self.timeout is not None and self.timeout > store.longest_request:
            raise click.BadParameter(
                f"must be at most {store.longest_request:g} when the quota is shared through Redis, got {self.timeout:g}",
                param_hint="--timeout",
            )
        return store

    def _http(self, base_url: str) -> Callable[[], aiohttp.ClientSession] | None:
        if self.proxy is None and self.ca_file is None and not self.trust_env:
            return None
        import aiohttp

        proxy, context = self._chosen_proxy(base_url), self._ssl_context()

        def connect() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=context),
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=proxy,
            )

        return connect

    def _chosen_proxy(self, base_url: str) -> str | None:
        if self.proxy is not None:
            return _checked_proxy(self.proxy, "--proxy")
        # Not aiohttp's trust_env, which also sends what ~/.netrc says in place of the API key.
        from urllib.request import getproxies, proxy_bypass

        parts = urlsplit(base_url)
        given = None if not self.trust_env or proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
        if not given:
            return None
        # Other programs accept HOST:PORT here.
        return _checked_proxy(given if "://" in given else f"http://{given}", f"{parts.scheme.upper()}_PROXY")

    def _ssl_context(self) -> ssl.SSLContext | bool:
        if self.ca_file is None:
            return True
        check_kind("ca_file", self.ca_file)
        try:
            return ssl.create_default_context(cafile=str(self.ca_file))
        except OSError as error:  # which ssl.SSLError is
            reason = "it holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise click.BadParameter(f"cannot use {self.ca_file}: {reason}", param_hint="--ca-file") from None


def _checked_proxy(given: str, name: str) -> str:
    try:
        parts = urlsplit(given)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:  # without the value, which may hold a password
        raise click.BadParameter("must be a URL such as http://proxy.example:3128", param_hint=name)
    return given


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the connection options, as its parameter `connection`."""

    @_option("--region", metavar="NAME", help="Region [RECALL_REGION; default us-east-1].")
    @_option("--base-url", metavar="URL", help="API address [RECALL_BASE_URL; default: the region's].")
    @secret_file_option("--api-key-file", "File with the API key [or the key in RECALL_API_KEY].", cls=ConnectionOption)
    @_option("--workspace", metavar="NAME", help="Share the quota under this name [RECALL_WORKSPACE].")
    @redis_option
    @prefix_option
    @_option(
        "--quota-scale",
        type=Number(above=0, most=1_000_000),
        metavar="F",
        help="The workspace has F times the base quotas.",
    )
    @_option("--timeout", type=Number(above=0), metavar="SECONDS", help="Time limit of one attempt [default 30].")
    @_option("--proxy", metavar="URL", help="HTTP proxy to send requests through.")
    @_option(
        "--ca-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="PEM file of authorities to trust, not the system's.",
    )
    @_option("--trust-env", is_flag=True, help="Obey HTTPS_PROXY and NO_PROXY.")
    @_option("-v", "--verbose", count=True, help="Print waits and retries; -vv: every request [RECALL_LOG].")
    @wraps(command)
    def connected(*args: Any, verbose: int, redis: str | None, **options: Any) -> Any:
        if verbose:
            os.environ["RECALL_LOG"] = "info" if verbose == 1 else "debug"
        values = {field.name: options.pop(field.name) for field in fields(Connection) if field.name != "redis"}
        return command(*args, connection=Connection(redis=redis_url(redis), **values), **options)

    return connected


def _option(*names: str, **settings: Any) -> Decorator:
    return click.option(*names, cls=ConnectionOption, **settings)


redis_option: Decorator = _option("--redis", metavar="URL", help="Share quota and jobs through it [RECALL_REDIS_URL].")
prefix_option: Decorator = _option(
    "--prefix", metavar="TEXT", default="recall", help="Prefix of all keys in Redis [default recall]."
)


def redis_url(given: str | None) -> str | None:
    """Return the URL of `--redis`, or of the environment."""
    return given or os.environ.get("RECALL_REDIS_URL") or None


def secret_file_option(name: str, text: str, cls: type[click.Option] | None = None) -> Decorator:
    """Return an option for the file of a secret: other users of the machine can read arguments."""
    path = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.option(name, cls=cls, type=path, metavar="FILE", help=text)


def read_text(name: str, path: str | Path) -> str:
    """Return the text of the file that the parameter `name` names. Raises `BadParameter` and `ConfigurationError`."""
    try:
        return read_file(name, path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.BadParameter(f"cannot read {path}: {reason}", param_hint=option_of(name)) from None


def option_of(name: str) -> str:
    """Return the option that sets a parameter."""
    return f"--{name.replace('_', '-')}"
