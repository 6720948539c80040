"""The version of the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("recall-async")
except PackageNotFoundError:  # the source on a path, not installed
    __version__ = "unknown"
