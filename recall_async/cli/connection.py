"""Which workspace to talk to, and with which key: the options that commands have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..limits.contract import QuotaStore
    from ..limits.quota import Quota
    from ..session import RecallSession


@dataclass(frozen=True, slots=True)
class Connection:
    """What the connection options say."""

    region: str | None
    base_url: str | None
    workspace: str | None
    api_key_file: Path | None

    def session(
        self, quotas: Mapping[str, Quota] | None = None, *, quota_store: QuotaStore | None = None
    ) -> RecallSession:
        """A session, not opened yet. Raises `UsageError` or `ConfigurationError` for options that cannot be."""
        from ..session import RecallSession, Region

        base_url = self.base_url
        if self.region and not base_url:
            # Said now, it goes before a RECALL_BASE_URL that was said once.
            try:
                base_url = Region(self.region).base_url
            except ValueError:
                raise click.UsageError(f"no region is called {self.region!r}; there are {', '.join(Region)}") from None
        workspace = self.workspace or os.environ.get("RECALL_WORKSPACE") or None
        return RecallSession(
            self._api_key(), base_url=base_url, workspace=workspace, quotas=quotas, quota_store=quota_store
        )

    def _api_key(self) -> str | None:
        if self.api_key_file is not None:
            return read_secret(self.api_key_file, "--api-key-file")
        if "RECALL_API_KEY" not in os.environ:
            raise click.UsageError("there is no API key: set RECALL_API_KEY, or name its file with --api-key-file")
        return None


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the connection options, as its parameter `connection`."""

    @click.option("--region", metavar="NAME", help="Where the workspace lives [RECALL_REGION, or else us-east-1].")
    @click.option("--base-url", metavar="URL", help="In place of the region's [RECALL_BASE_URL].")
    @click.option("--workspace", metavar="NAME", help="The name that its keys share a quota under [RECALL_WORKSPACE].")
    @secret_file_option("--api-key-file", "A file that holds the API key [or the key itself in RECALL_API_KEY].")
    @wraps(command)
    def connected(
        *args: Any,
        region: str | None,
        base_url: str | None,
        workspace: str | None,
        api_key_file: Path | None,
        **options: Any,
    ) -> Any:
        return command(*args, connection=Connection(region, base_url, workspace, api_key_file), **options)

    return connected


def secret_file_option(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option for a secret: arguments can be read by every user of the machine, so it names a file."""
    return click.option(name, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE", help=text)


def read_secret(path: Path, option: str) -> str:
    """The one line that a file holds."""
    try:
        return path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise click.BadParameter(f"{path} cannot be read: {reason}", param_hint=option) from None
