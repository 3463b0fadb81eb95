"""`python -m tests.simulation`: plays seeds, and tells of those that broke a promise."""

import argparse
import os
import sys
import time

from tests.simulation.campaign import Tally, ambushes, campaign
from tests.simulation.run import Report, play
from tests.simulation.sites import all_sites


def main() -> int:
    """Returns how the process should end: 1 if a promise was broken."""
    options = _options()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts is fixed when the interpreter starts.
        os.environ["PYTHONHASHSEED"] = "0"
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execv(sys.executable, again)  # noqa: S606 - ourselves
    if options.awaits:
        return _ambushes(options)
    if options.trace:
        return _trace(options.seed)
    return _campaign(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000, help="how many seeds")
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--awaits", action="store_true", help="kill at every await; --runs is how many tries each"
    )
    parser.add_argument("--first", action="store_true", help="stop at the first broken promise")
    parser.add_argument("--trace", action="store_true", help="play one seed and tell all of it")
    return parser.parse_args()


def _trace(seed: int) -> int:
    report = play(seed, is_traced=True)
    sys.stdout.write("\n".join([*report.trace, "", *_told(report), ""]))
    return 1 if report.broken else 0


def _campaign(options: argparse.Namespace) -> int:
    tally, began = Tally(), time.monotonic()
    seeds = range(options.seed, options.seed + options.runs)
    for report in campaign(seeds, jobs=options.jobs):
        tally.add(report)
        if report.broken:
            sys.stdout.write("\n".join([*_told(report), ""]))
            sys.stdout.flush()
        if report.broken and options.first:
            break
    seconds = time.monotonic() - began
    sys.stdout.write("\n".join([*_summary(tally, options.seed, seconds), ""]))
    return 1 if tally.failures else 0


def _ambushes(options: argparse.Namespace) -> int:
    missed = []
    seeds = range(options.seed, options.seed + options.runs)
    for (name, line), seed in ambushes(seeds, jobs=options.jobs):
        missed += [f"{name}:{line}"] if seed is None else []
        sys.stdout.write(f"{name}:{line} {'never' if seed is None else f'seed {seed}'}\n")
        sys.stdout.flush()
    sites = len(all_sites())
    sys.stdout.write(f"killed at {sites - len(missed)} of {sites} awaits; missed: {missed}\n")
    return 1 if missed else 0


def _told(report: Report) -> list[str]:
    if not report.broken:
        return [f"seed {report.seed}: every promise held"]
    again = f"python -m tests.simulation --trace --seed {report.seed}"
    return [f"seed {report.seed} broke a promise ({again}):", *(f"  {x}" for x in report.broken)]


def _summary(tally: Tally, first: int, seconds: float) -> list[str]:
    sites = len(all_sites())
    ends = ", ".join(f"{count} {word}" for word, count in sorted(tally.ends.items()))
    missed = ", ".join(f"{name}:{line}" for name, line in tally.missed) or "none"
    speed = f"{tally.runs / seconds:.1f} schedules a second"
    killed = f"{tally.crashes} kills at {sites - len(tally.missed)} of the engine's {sites} awaits"
    return [
        f"{tally.runs} schedules from seed {first}, {len(tally.failures)} broke a promise",
        f"{seconds:.1f} s, {speed}, {tally.steps} steps, {tally.virtual_s / 3600:.1f} hours",
        f"{killed}; missed: {missed}",
        f"ends: {ends}",
        f"faults that never happened: {', '.join(tally.spared) or 'none'}",
    ]


if __name__ == "__main__":
    sys.exit(main())
