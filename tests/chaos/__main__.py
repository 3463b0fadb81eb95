"""`python -m tests.chaos`: one run of chaos. Prints what was broken, and the figures."""

import argparse
import asyncio
import json
import random
import signal
import sys
from pathlib import Path

from tests.chaos.monkey import Kind
from tests.chaos.run import Options, run


def main() -> int:
    """Run it. The exit status is 0 if every promise was kept."""
    args = _arguments()
    options = Options(
        seconds=args.seconds,
        seed=args.seed,
        without=frozenset(Kind(word) for word in args.without),
        keep=args.keep,
    )
    sys.stderr.write(f"seed {options.seed}\n")
    # Whoever ends us ends what we started, in the same way as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    outcome = asyncio.run(run(options))
    line = json.dumps(outcome.report)
    if args.json is not None:
        args.json.write_text(line + "\n")
    sys.stdout.write(line + "\n")
    for violation in outcome.violations:
        sys.stderr.write(violation + "\n")
    if outcome.violations:
        sys.stderr.write(
            f"seed {options.seed}: {len(outcome.violations)} violations; logs and evidence are in "
            f"{outcome.report['directory']}\n"
        )
    return 1 if outcome.violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--json", type=Path, help="where to write the figures too")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=[str(kind) for kind in Kind],
        help="leave a kind of disturbance out; may be repeated",
    )
    parser.add_argument("--keep", action="store_true", help="keep logs and evidence in any case")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
