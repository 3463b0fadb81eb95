"""How a part is asked to measure."""

import argparse
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes that the command line may change; each part has defaults of its own, and reads those
    that mean something to it."""

    rounds: int = 5
    seed: int = 1
    appliances: int = 64
    pairings: int = 1000
    in_flight: int = 256

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be measured."""
        for each in fields(self):
            if getattr(self, each.name) < 1:
                raise ValueError(f"--{each.name.replace('_', '-')} has to be positive")
        most = self.appliances * (self.appliances - 1) // 2
        if self.pairings > most:
            raise ValueError(f"{self.appliances} appliances make {most} couples at most")


def parsed(prog: str, description: str | None, defaults: Options) -> tuple[Options, bool]:
    """What the command line asks for, and whether the answer is to be JSON."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    for each in fields(Options):
        flag = f"--{each.name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=getattr(defaults, each.name))
    parser.add_argument("--json", action="store_true")
    args = vars(parser.parse_args())
    as_json = bool(args.pop("json"))
    try:
        return replace(defaults, **args), as_json
    except ValueError as fault:
        parser.error(str(fault))
