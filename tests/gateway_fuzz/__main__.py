"""``python -m tests.gateway_fuzz --inputs 100000 [--seed 1]`` prints how many inputs there were, and what became of them."""

from __future__ import annotations

import argparse
import random

from tests.gateway_fuzz.fuzzer import fuzz


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gateway_fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    try:
        print(fuzz(arguments.inputs, arguments.seed))
    except Exception as error:
        error.__notes__ = [note[:2000] for note in getattr(error, "__notes__", [])]  # the input may be long
        raise


if __name__ == "__main__":
    main()
