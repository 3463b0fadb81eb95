"""`sitepair demo`: appliances, service and database on this machine, paired while one watches."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from service.app import Running, running
from service.cli.following import patiently
from service.cli.remote import Remote, answered, remote
from service.cli.status import Exit, Terminal, run, say, tell
from service.cli.tables import show
from service.cli.watching import told_end, watching
from service.domain.errors import SitepairError
from service.observe.logging import configure
from service.settings import Settings, from_environment
from service.store.lockfile import LockFile
from service.upkeep import discard
from simulator import Fleet, FleetOptions, Knobs

_COUPLE = 2
_TASK_MS = (1_500, 4_000)
_COMM_REFRESH_MS = 1_000
EGRESS = tuple([ip_network(text) for text in ("127.0.0.0/8", "0.0.0.0/0", "::/0")])
"""The simulated appliances live on the loopback, which has to be named; the rest is as always."""

_ELSEWHERE = "Name another directory with SITEPAIR_DATA_DIR."


def demo(
    *,
    appliances: int = 3,
    once: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Start a service and simulated appliances, and pair them over the REST API.

    Parameters
    ----------
    appliances
        How many appliances, at least 2; each is paired with each.
    once
        Stop after the pairings instead of staying up.
    """
    if appliances < _COUPLE:
        tell(f"--appliances takes {_COUPLE} or more: there has to be something to pair.")
        return Exit.REFUSED
    return run(answered(_demo(appliances, once=once)))


async def _demo(count: int, *, once: bool) -> Exit:
    configured = from_environment(os.environ)
    home = configured.data_dir / "demo"
    with _reserved(home):
        # What another demo left there is not for this one.
        await discard(home)
        with _kept_in(home):
            await asyncio.to_thread(home.mkdir)
        return await _shown(configured, home, count, once=once)


@contextmanager
def _reserved(home: Path) -> Iterator[None]:
    """For one demo at a time, which would be robbed by the next. Raises SitepairError."""
    with _kept_in(home):
        home.parent.mkdir(parents=True, exist_ok=True)
        lock = LockFile(home.with_suffix(".lock"))
    with lock:
        if not lock.take():
            raise SitepairError(f"Another demo is running in {home}. Stop it first. {_ELSEWHERE}")
        yield


@contextmanager
def _kept_in(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SitepairError(
            f"The demo cannot be kept in {home}: {error.strerror}. {_ELSEWHERE}"
        ) from error


async def _shown(configured: Settings, home: Path, count: int, *, once: bool) -> Exit:
    settings = replace(
        configured,
        data_dir=home,
        database_url=None,
        admin_token=None,
        listen=(configured.listen[0], 0),
        egress_allow=EGRESS,
    )
    log = home / "service.log"
    say(f"Starting PostgreSQL, {count} simulated appliances and the service ...")
    with log.open("w", encoding="utf-8") as stream:
        configure(level=settings.log_level, stream=stream)
        async with _stage(settings, count) as (fleet, service, api):
            pairings = await _pair_all(api, fleet)
            await _print_trail(api, pairings[0])
            _print_truth(fleet, pairings)
            if not once:
                _print_hints(service, fleet, log)
                await _until_interrupted()
    return Exit.OK if all(each["state"] == "SUCCEEDED" for each in pairings) else Exit.FAILED


@asynccontextmanager
async def _stage(settings: Settings, count: int) -> AsyncIterator[tuple[Fleet, Running, Remote]]:
    knobs = Knobs(task_ms=_TASK_MS, queued_ms=400, comm_refresh_ms=_COMM_REFRESH_MS)
    async with (
        Fleet.start(FleetOptions(count=count, knobs=knobs)) as fleet,
        running(settings) as service,
        remote(service.url, service.admin_token) as api,
    ):
        yield fleet, service, api


async def _pair_all(api: Remote, fleet: Fleet) -> Sequence[Any]:
    for each in fleet.as_json()["appliances"]:
        body = {
            key: each[key]
            for key in ("managementUrl", "apiUrl", "thumbprint", "apiThumbprint", "credentials")
        }
        await api.call("PUT", f"/v1/appliances/{each['name']}", body)
    names = [each.name for each in fleet.appliances]
    pairings = [
        await api.call("POST", "/v1/pairings", {"appliances": couple}, operationID="demo")
        for couple in combinations(names, 2)
    ]
    async with watching(Terminal()) as watch:
        while any(each["endTime"] == -1 for each in pairings):
            watch.show(pairings)
            waiting = next(each for each in pairings if each["endTime"] == -1)
            await patiently(api.call, "GET", f"/v1/pairings/{waiting['id']}?waitSeconds=0.2")
            pairings = [
                await patiently(api.call, "GET", f"/v1/pairings/{each['id']}") for each in pairings
            ]
        watch.show(pairings)
    for each in pairings:
        if each["state"] != "SUCCEEDED":
            say(*told_end(each))
    return pairings


async def _print_trail(api: Remote, pairing: Any) -> None:
    events = (await api.call("GET", f"/v1/pairings/{pairing['id']}/events"))["items"]
    began = events[0]["at"]
    say(f"Audit trail of {pairing['id']}:")
    rows = [
        (
            str(each["seq"]),
            str(each["at"] - began),
            each["type"],
            each.get("side") or "",
            each["hash"][:12],
        )
        for each in events
    ]
    show(("seq", "ms", "event", "on", "hash"), rows)


def _print_truth(fleet: Fleet, pairings: Sequence[Any]) -> None:
    truth = fleet.truth()
    held = sum(len(each["peers"]) for each in truth["appliances"].values())
    succeeded = sum(each["state"] == "SUCCEEDED" for each in pairings)
    say(
        f"The service says: {succeeded} of {len(pairings)} paired. The appliances say: "
        f"{len(truth['accepted'])} calls accepted, {held} records held."
    )


def _print_hints(service: Running, fleet: Fleet, log: Path) -> None:
    say(
        f"\nThe service stays up at {service.url} (its log: {log})",
        f"  export SITEPAIR_URL={service.url} SITEPAIR_TOKEN=$(cat {service.admin_token_path})",
        '  curl -H "Authorization: Bearer $SITEPAIR_TOKEN" $SITEPAIR_URL/v1/pairings',
        f"What the appliances really did: {fleet.control_url}/truth (faults: simulator/README.md)",
        "Ctrl-C stops everything.",
    )


async def _until_interrupted() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
