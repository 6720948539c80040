"""The scenarios of test_processes.py, again and again: what once in a hundred times goes wrong shows here.

python -m tests.redis.soak [--rounds 10]
"""

from __future__ import annotations

import argparse

from tests.redis.processes import jain
from tests.redis.test_processes import SCENARIOS, play


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    for number in range(parser.parse_args().rounds):
        for name, scenario in SCENARIOS.items():
            run = play(scenario)
            fair = jain([len(made) for made in run.lines[:4]])
            print(f"{number + 1}. {name}: {run.server}, fairness {fair:.3f}", flush=True)
            if run.server["rejected"]:
                raise SystemExit("a request was rejected")


if __name__ == "__main__":
    main()
