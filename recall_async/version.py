"""The version of the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("recall-async")
except PackageNotFoundError:  # the source on a path, not installed
    VERSION = "unknown"
