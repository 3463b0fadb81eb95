"""One run: everything started, disturbed, let go of, and judged."""

import asyncio
import base64
import json
import math
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import aiohttp

from tests.chaos import figures
from tests.chaos.appliances import Appliances, Json, simulated
from tests.chaos.database import OwnDatabase
from tests.chaos.errands import Plan, plan
from tests.chaos.load import Clients
from tests.chaos.monkey import Cast, Kind, Monkey, schedule
from tests.chaos.ownership import Watch
from tests.chaos.processes import Slot, run_once
from tests.chaos.seeds import seeded
from tests.chaos.truth import Evidence, violations
from tests.chaos.weather import climate

LEASE_S = 20.0
SETTLE_S = 180.0
"""For everything to end once nothing is disturbed any more."""

_PAIRINGS_PER_S = 1.9
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. `without` leaves some disturbances out; `keep` keeps logs and evidence."""

    seconds: float
    seed: int
    workers: int = 3
    apis: int = 2
    without: frozenset[Kind] = frozenset()
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: broken promises, one a line, and the figures."""

    violations: list[str]
    report: Json


@dataclass(frozen=True, slots=True)
class _Stage:
    """All that plays in a run."""

    directory: Path
    options: Options
    database: OwnDatabase
    appliances: Appliances
    plan: Plan
    workers: Sequence[Slot]
    apis: Sequence[Slot]
    clients: Clients

    @property
    def slots(self) -> list[Slot]:
        return [*self.workers, *self.apis]


async def run(options: Options) -> Outcome:
    """Run it. What is left of a run without violations is nothing; of another one, its logs and
    its evidence, in the directory that the report names."""
    directory = new_directory()
    try:
        async with _set(options, directory) as stage:
            outcome = await _play(stage)
    except BaseException:
        sys.stderr.write(f"seed {options.seed}: not finished; the logs are in {directory}\n")
        await asyncio.to_thread(shutil.rmtree, directory / "database", ignore_errors=True)
        raise
    keep = options.keep or bool(outcome.violations)
    await asyncio.to_thread(_clear_up, directory, keep=keep)
    return outcome


@asynccontextmanager
async def _set(options: Options, directory: Path) -> AsyncIterator[_Stage]:
    """Everything that a run needs, with no process of the service started yet."""
    count = round(options.seconds * _PAIRINGS_PER_S)
    fleet = math.ceil((1 + math.sqrt(1 + 8 * (count + 3))) / 2)
    token = secrets.token_hex(16)
    async with (
        OwnDatabase.started(directory / "database") as database,
        simulated(fleet, options.seed, directory) as appliances,
        aiohttp.ClientSession() as session,
    ):
        environment = environment_of(database.url, directory, token)
        await run_once("migrate", ["-m", "service", "migrate"], environment, directory / "log")

        def slots(role: str, number: int) -> list[Slot]:
            names = [f"{role}-{index + 1}" for index in range(number)]
            return [
                Slot(name, f"--{role}-only", environment, directory, database.was_down)
                for name in names
            ]

        workers, apis = slots("worker", options.workers), slots("api", options.apis)
        yield _Stage(
            directory=directory,
            options=options,
            database=database,
            appliances=appliances,
            plan=plan(options.seed, options.seconds, appliances.names, count),
            workers=workers,
            apis=apis,
            clients=Clients(token, lambda: [s.url for s in apis if s.url is not None], session),
        )


def environment_of(database_url: str, directory: Path, token: str) -> dict[str, str]:
    """What every process of the service runs with."""
    return {
        "SITEPAIR_DATABASE_URL": database_url,
        "SITEPAIR_DATA_DIR": str(directory / "data"),
        "SITEPAIR_LISTEN": "127.0.0.1:0",
        "SITEPAIR_ADMIN_TOKEN": token,
        "SITEPAIR_SECRET_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "SITEPAIR_EGRESS_ALLOW": "127.0.0.0/8",
        "SITEPAIR_VERIFY_TIMEOUT": "15",
    }


async def _play(stage: _Stage) -> Outcome:
    options = stage.options
    await _prepare_appliances(stage)
    watch = Watch(stage.database)
    lost = figures.LostAnswers(stage.appliances)
    monkey = Monkey(stage.workers, stage.apis, stage.database, stage.appliances, watch.killed)
    cast = Cast(options.workers, options.apis, tuple(stage.appliances.names), LEASE_S)
    disturbances = [
        each
        for each in schedule(options.seed, options.seconds, cast)
        if each.kind not in options.without
    ]
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for slot in stage.slots:
            tasks.create_task(slot.run())
        for slot in stage.slots:
            await slot.ready()
        await _register(stage)
        watching = [tasks.create_task(watch.run()), tasks.create_task(lost.run())]
        load = tasks.create_task(_load(stage))
        await monkey.run(disturbances, options.seconds)
        await load
        evidence = await _gather(stage)
        await lost.look()
        for each in watching:
            each.cancel()
        async with asyncio.TaskGroup() as goodbyes:
            for slot in stage.slots:
                goodbyes.create_task(slot.dismiss())
    faults = [fault for slot in stage.slots for fault in (*slot.faults, *slot.defects())]
    evidence = replace(evidence, complaints=[*stage.clients.complaints, *faults])
    await asyncio.to_thread(_save, stage.directory / "evidence.json", evidence)
    found = violations(evidence)
    report = {
        "seed": options.seed,
        "seconds": options.seconds,
        "wallS": round(time.monotonic() - began, 1),
        "appliances": len(stage.appliances.names),
        "accepted": len(evidence.jobs),
        "ended": figures.states(evidence),
        "failures": figures.failures(evidence),
        "done": {str(kind): count for kind, count in sorted(monkey.done.items())},
        "answers": dict(stage.clients.answers),
        "duplicatePosts": figures.duplicates(evidence, lost.asked),
        "takenOver": figures.taken_over(watch.bereavements),
        "logins": sum(each["loginsAccepted"] for each in evidence.counts.values()),
        "violations": found,
        "directory": str(stage.directory) if found or options.keep else None,
    }
    return Outcome(found, report)


async def _prepare_appliances(stage: _Stage) -> None:
    for couple in stage.plan.by_hand:
        await stage.appliances.pair_by_hand(*couple)
    await stage.appliances.forget_truth()
    rng = seeded(stage.options.seed, "climate")
    for name in stage.appliances.names:
        await stage.appliances.turn(climate(rng), name)


async def _register(stage: _Stage) -> None:
    for name, appliance in stage.appliances.described.items():
        status, answer = await stage.clients.call(
            "PUT", f"/v1/appliances/{name}", registration_of(appliance)
        )
        if status != 201:
            raise RuntimeError(f"{name} can not be registered: {answer}")


def registration_of(appliance: Json) -> Json:
    """The body that registers an appliance of the simulator."""
    fields = ("managementUrl", "apiUrl", "thumbprint", "apiThumbprint", "credentials")
    return {name: appliance[name] for name in fields}


async def _load(stage: _Stage) -> None:
    """Ask for everything and wait for the end of it, within the time for that."""
    with suppress(TimeoutError):
        async with asyncio.timeout(stage.options.seconds + SETTLE_S):
            await stage.clients.run(stage.plan.errands, f"chaos-{stage.options.seed}")


async def _gather(stage: _Stage) -> Evidence:
    clients, appliances = stage.clients, stage.appliances
    for job in clients.jobs:
        _, job.final = await clients.call("GET", f"/v1/pairings/{job.id}")
        _, trail = await clients.call("GET", f"/v1/pairings/{job.id}/events")
        job.events = trail["items"]
    # What the appliances say of each other is to be as of now.
    await appliances.turn({"comm_refresh_ms": 0})
    truth = await appliances.truth()
    return Evidence(
        jobs=clients.jobs,
        by_hand=stage.plan.by_hand,
        described=appliances.described,
        accepted=truth["accepted"],
        counts=truth["appliances"],
        records={name: each["peers"] for name, each in truth["appliances"].items()},
        listed={name: await appliances.peers(name) for name in appliances.names},
        known=await _known(clients),
    )


async def _known(clients: Clients) -> list[str]:
    """The ids of all pairings that the service lists."""
    known: list[str] = []
    path = f"/v1/pairings?limit={_PAGE}"
    while True:
        _, page = await clients.call("GET", path)
        known += [item["id"] for item in page["items"]]
        if page["nextCursor"] is None:
            return known
        path = f"/v1/pairings?limit={_PAGE}&cursor={page['nextCursor']}"


def new_directory() -> Path:
    """Short, because a socket lies in it; open to the account that PostgreSQL runs under."""
    directory = Path(tempfile.mkdtemp(prefix="sitepair-chaos-"))
    directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return directory


def _save(path: Path, evidence: Evidence) -> None:
    path.write_text(json.dumps(asdict(evidence), indent=1))


def _clear_up(directory: Path, *, keep: bool) -> None:
    database = directory / "database"
    if keep:
        with suppress(OSError):
            shutil.copy(database / "postgres" / "log", directory / "postgres.log")
        shutil.rmtree(database)
    else:
        shutil.rmtree(directory)
