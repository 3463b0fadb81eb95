"""`python -m simulator`: a fleet in a process of its own. Prints one line of JSON when ready."""

import argparse
import asyncio
import json
import sys
from typing import get_args

from simulator.knobs import BadKnob, Knobs, changed
from simulator.serve import ApiUrls, Fleet, FleetOptions, run_until_stopped


def main(argv: list[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM. Returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        options = FleetOptions(
            count=args.appliances,
            seed=args.seed,
            knobs=changed(Knobs(), dict(map(_knob, args.knob))),
            base_port=args.base_port,
            control_port=args.control_port,
            name_prefix=args.name_prefix,
            api_urls=args.api_urls,
            own_api_certificate=not args.shared_certificate,
            ca_signed=args.ca_signed,
        )
    except (BadKnob, ValueError) as fault:
        parser.error(str(fault))
    try:
        asyncio.run(run_until_stopped(options, _announce))
    except OSError as fault:
        sys.stderr.write(f"simulator: can not listen: {fault}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulator", description="Simulated VCDA appliances.")
    parser.add_argument("--appliances", type=int, default=2, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control-port", type=int, default=0, metavar="PORT")
    parser.add_argument("--base-port", type=int, default=0, metavar="PORT")
    parser.add_argument("--name-prefix", default="site")
    parser.add_argument("--api-urls", choices=get_args(ApiUrls), default="address")
    parser.add_argument("--shared-certificate", action="store_true")
    parser.add_argument("--ca-signed", action="store_true")
    parser.add_argument(
        "--knob", action="append", default=[], metavar="NAME=VALUE", help="may be repeated"
    )
    return parser


def _knob(text: str) -> tuple[str, object]:
    """NAME=VALUE, where the value is JSON or else a word."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _announce(fleet: Fleet) -> None:
    line = json.dumps(fleet.as_json())
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
