"""`sitepair simulate`: appliances that behave as the vendor says, on this machine."""

import asyncio
import json
from typing import Annotated

from cyclopts import Parameter

from service.cli.status import Exit, Unwritable, say, tell
from service.cli.tables import show
from simulator import Fleet, FleetOptions, run_until_stopped


def simulate(
    *,
    appliances: int = 8,
    seed: int = 1,
    control_port: int = 0,
    base_port: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Run simulated appliances until Ctrl-C.

    Parameters
    ----------
    appliances
        How many appliances.
    seed
        Decides names, certificates and task times; the same seed gives the same run.
    control_port
        The port that takes faults and tells what the appliances did; 0 for any free port.
    base_port
        The port of the first appliance, the others follow; 0 for any free ports.
    as_json
        Print one line of JSON instead of a table.
    """

    def announce(fleet: Fleet) -> None:
        if as_json:
            say(json.dumps(fleet.as_json()))
        else:
            _print_fleet(fleet)

    try:
        options = FleetOptions(
            count=appliances, seed=seed, control_port=control_port, base_port=base_port
        )
        asyncio.run(run_until_stopped(options, announce))
    except ValueError as fault:
        tell(str(fault))
        return Exit.REFUSED
    except OSError as fault:
        tell(f"Cannot listen: {fault}")
        return Exit.FAILED
    except Unwritable as fault:
        tell(str(fault))
        return Exit.FAILED
    return Exit.OK


def _print_fleet(fleet: Fleet) -> None:
    rows = [
        (each.name, each.management_url, each.api_url, each.username, each.password)
        for each in fleet.appliances
    ]
    show(("name", "managementUrl", "apiUrl", "user", "password"), rows)
    say(
        f"Control: {fleet.control_url} (thumbprints: {fleet.control_url}/appliances)",
        "Ctrl-C stops.",
    )
