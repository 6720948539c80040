"""Benchmarks: the client beside the best of its kind on the same work, measured on this machine alone.

    pip install -e ".[bench]" && python -m benchmarks [NAME...] [--quick] [--out DIRECTORY]

Each NAME is a module here with one function, `run(quick: bool) -> Report`. `python -m benchmarks NAME` calls it, prints
its tables, and writes its section and chart into docs/benchmarks.md; the other sections stay as they are.
"""
