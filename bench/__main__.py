"""`python -m bench`: every part, one table; `python -m bench throughput idle` for some of them."""

import argparse
import asyncio
import sys
import time
from dataclasses import replace

from bench.figures import Row
from bench.parts import PARTS
from bench.report import as_text, tell


def main() -> None:
    """Measure and print. The exit status is 1 if a part could not be measured."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="of each part, instead of its own number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    tell(f"seed {args.seed}")
    rows: list[Row] = []
    failed: list[str] = []
    for name in args.parts or PARTS:
        try:
            rows += asyncio.run(_measured(name, args.seed, args.rounds))
        except Exception as error:  # noqa: BLE001 - the other parts' figures must not be lost
            failed.append(name)
            tell(f"{name} failed: {error!r}")
    print(as_text(rows, as_json=args.json))
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


async def _measured(name: str, seed: int, rounds: int | None) -> list[Row]:
    part = PARTS[name]
    began = time.monotonic()
    options = replace(part.options, seed=seed, rounds=rounds or part.options.rounds)
    rows = await part.measure(options)
    tell(f"{name}: {time.monotonic() - began:.0f} s")
    return rows


if __name__ == "__main__":
    main()
