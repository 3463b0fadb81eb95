"""`python -m bench`: the service against the bare calls, rounds interleaved, ratios printed."""

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
from pathlib import Path

from bench import bare, ours
from bench.figures import Round, Row, compared
from bench.processes import service, simulator


def main() -> None:
    """Measure and print."""
    options = _options()
    sys.stderr.write(f"seed {options.seed}\n")
    rows = asyncio.run(_measure(options))
    if options.json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    else:
        _print_table(rows)


async def _measure(options: argparse.Namespace) -> list[Row]:
    couples = list(itertools.combinations(range(options.appliances), 2))
    if options.pairings > len(couples):
        raise SystemExit(f"{options.appliances} appliances make {len(couples)} couples at most")
    random.Random(options.seed).shuffle(couples)
    chosen = couples[: options.pairings]
    theirs: list[Round] = []
    mine: list[Round] = []
    for number in range(options.rounds):
        seed = options.seed + number
        async with simulator(options.appliances, seed) as fleet:
            theirs.append(await bare.measure(fleet["appliances"], chosen, options.in_flight))
        with tempfile.TemporaryDirectory(prefix="sitepair-bench-") as directory:
            data_dir = Path(directory)
            # PostgreSQL runs as another account when we are root.
            await asyncio.to_thread(data_dir.chmod, 0o755)
            async with (
                simulator(options.appliances, seed) as fleet,
                service(data_dir, options.in_flight) as (process, described),
            ):
                mine.append(await ours.measure(described, fleet, chosen, process))
        sys.stderr.write(
            f"round {number + 1}: bare {theirs[-1].figures['pairings/s']:.0f}/s, "
            f"ours {mine[-1].figures['pairings/s']:.0f}/s\n"
        )
    return compared(theirs, mine)


def _print_table(rows: list[Row]) -> None:
    print(f"{'figure':22}{'bare':>10}{'ours':>10}{'ratio':>8}{'worst':>8}")
    for row in rows:
        print(
            f"{row.figure:22}{row.bare:10.2f}{row.ours:10.2f}{row.ratio:8.2f}{row.worst_ratio:8.2f}"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--pairings", type=int, default=1000)
    parser.add_argument("--appliances", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
