"""Say why aiohttp got no response, in words that help: an unknown name, a certificate, a proxy, a cut connection."""

from __future__ import annotations

import os
import re
import socket
import ssl

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from .secrecy import one_line


def flaw_of(error: BaseException) -> str | None:
    """Return what is wrong with a response that is not HTTP, without its content; `None` for another error."""
    cause = error.__cause__
    if not isinstance(cause, HttpProcessingError):
        return None
    text = cause.message
    if isinstance(error, aiohttp.ClientPayloadError) and text.startswith("Not enough data"):
        return None  # it was cut off
    return re.split(r"[:'\"\n(]| b'", text.strip())[0].strip()[:80].lower() or "malformed"


def reason_of(error: BaseException) -> str:
    """Return why no response came, and what to check."""
    reason = _reason_alone(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy refused the connection with {error.status} ({one_line(error.message, 100)})"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {error.host}:{error.port} cannot be reached: {reason}"
    return reason


def _reason_alone(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        said = error.certificate_error
        return (
            f"its TLS certificate is not valid ({getattr(said, 'verify_message', '') or said}). Check base_url, the "
            "certificates of this system, and proxies that open TLS connections"
        )
    if isinstance(error, aiohttp.InvalidURL):  # base_url was checked, and the text may hold a password
        return "the address of the proxy is not a URL such as http://proxy.example:3128"
    cause = getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLError):
        reason = (getattr(cause, "reason", None) or str(cause)).replace("_", " ").lower()
        return f"TLS failed ({reason}). Check whether base_url is an https address"
    if isinstance(cause, socket.gaierror):
        name = one_line(str(getattr(error, "host", "")), 100)
        return f"the name {name} cannot be looked up ({cause.strerror}). Check base_url, the proxy and the DNS"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection before it answered"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection was closed in the middle of the answer"
    number = cause.errno if isinstance(cause, OSError) else None
    text = os.strerror(number) if number is not None and number > 0 else str(error)
    return one_line(text, 200) or type(error).__name__


def is_refused(error: BaseException) -> bool:
    """Return whether nothing listens at the address, or at that of the proxy."""
    return isinstance(getattr(error, "os_error", error), ConnectionRefusedError)


def is_permanent(error: BaseException) -> bool:
    """Return whether a retry would fail in the same way."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.InvalidURL):
        return True
    cause = getattr(error, "os_error", error)
    return isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN
