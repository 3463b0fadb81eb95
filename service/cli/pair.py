"""`sitepair pair A B`: ask for a pairing and watch it."""

import asyncio
import json
import secrets
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from service.cli.remote import Remote, Unreachable, answered, remote
from service.cli.status import Exit, run, say, tell
from service.cli.watching import told_end, watching

_WAIT_S = 1
_PATIENCE_S = 60.0


def pair(
    one: str,
    other: str,
    *,
    description: str = "",
    timeout: int | None = None,
    wait: bool = True,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Pair two appliances and wait for the end.

    Exit status: 0 paired, 1 not paired, 2 refused, 3 the service does not answer. Ctrl-C stops
    watching; the pairing goes on.

    Parameters
    ----------
    one, other
        Their names.
    description
        What the appliances are told to call it.
    timeout
        Seconds after which to give up.
    wait
        Wait for the end.
    as_json
        Print the pairing as JSON.
    """
    body: dict[str, object] = {"appliances": [one, other], "description": description}
    if timeout is not None:
        body["timeoutSeconds"] = timeout
    return run(answered(_pair(body, wait=wait, as_json=as_json)))


async def _pair(body: dict[str, object], *, wait: bool, as_json: bool) -> Exit:
    async with remote() as service:
        # Of our own, so that asking again after a lost answer starts nothing twice.
        key = secrets.token_hex(16)
        pairing = await service.call("POST", "/v1/pairings", body, Idempotency_Key=key)
        if wait:
            try:
                console = Console(stderr=as_json)
                pairing = await _watched(service, pairing, console)
            except asyncio.CancelledError:
                tell(f"Pairing {pairing['id']} goes on without being watched.")
                raise
    say(json.dumps(pairing, indent=2) if as_json else "\n".join(told_end(pairing)))
    return Exit.OK if not wait or pairing["state"] == "SUCCEEDED" else Exit.FAILED


async def _watched(service: Remote, pairing: Any, console: Console) -> Any:
    async with watching(console) as watch:
        watch.show([pairing])
        while pairing["endTime"] == -1:
            pairing = await patiently(
                service, f"/v1/pairings/{pairing['id']}?waitSeconds={_WAIT_S}"
            )
            watch.show([pairing])
    return pairing


async def patiently(service: Remote, path: str) -> Any:
    """GET `path`; a service that is away for a moment is waited for. Raises Unreachable."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _PATIENCE_S
    while True:
        try:
            return await service.call("GET", path)
        except Unreachable:
            if loop.time() >= give_up:
                raise
            await asyncio.sleep(1)
