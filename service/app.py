"""The one place that wires: names every concrete class, starts each part, stops it in reverse."""

import asyncio
import base64
import hashlib
import hmac
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uuid_utils.compat
from aiohttp import web

from service.api.parts import ApiParts, ProcessParts
from service.api.routes import build, build_without_api
from service.api.serving import ApiRunner
from service.appliance.check import CheckReport, check
from service.appliance.conditions import Conditions, wall_ms
from service.appliance.egress import EgressPolicy
from service.appliance.fleet import ApplianceFleet
from service.appliance.limits import CallTimeouts
from service.concurrency.singleflight import SingleFlight
from service.domain.errors import NotOurs, SitepairError, StoreUnavailable
from service.domain.ids import WorkerId
from service.domain.registration import Registration
from service.engine.policy import Policy
from service.engine.ports import Ports
from service.engine.succession import Succession
from service.engine.worker import Worker
from service.observe.events import (
    ServiceStarted,
    ServiceStopped,
    StoreTroubled,
)
from service.observe.logging import emit, listening
from service.observe.metrics import Metrics
from service.settings import Settings
from service.store.appliances import Appliances
from service.store.audit import Audit
from service.store.batches import Batches
from service.store.bulk import BulkIntake
from service.store.cancels import Cancels
from service.store.claims import Claims
from service.store.database import Database
from service.store.health import Health
from service.store.intake import Intake
from service.store.journal import Journal
from service.store.leases import Heartbeat
from service.store.logins import LoginGates
from service.store.migrate import SchemaState, Standing, current_state, upgrade
from service.store.notify import Listener, Signal
from service.store.pairings import Pairings
from service.store.partitions import keep_partitions
from service.store.registrations import Registrations
from service.store.retries import Retries
from service.store.vault import Vault, load_or_create_key
from service.upkeep import database_url, keep_own_database, refuse_other_schema

_DRAIN_S = 5.0
_DRAIN_LATER_S = 1.0
"""Once the database has not answered one part in time, it will hardly answer the next."""

_ANSWERS_S = 5.0
"""How long requests that are under way, half-sent ones among them, may hold up the end."""


@dataclass(frozen=True, slots=True)
class Running:
    """A service that is up. `url` is None when it serves no API, `admin_token` is empty when it
    listens on no port."""

    url: str | None
    admin_token: str = field(repr=False)
    admin_token_path: Path | None


@asynccontextmanager
async def running(
    settings: Settings, *, api: bool = True, worker: bool = True, policy: Policy | None = None
) -> AsyncIterator[Running]:
    """The whole service, or its API or worker alone; stopped cleanly at the end of the block.

    Raises SitepairError when it cannot be started as configured.
    """
    try:
        async with AsyncExitStack() as stack:
            metrics = Metrics()
            stack.enter_context(listening(metrics.see))
            store = await _open_store(stack, settings, metrics)
            patience = policy or Policy(verify_timeout_s=settings.verify_timeout_s)
            workers = await _start_worker(stack, store, patience) if worker else None
            url = await _start_http(stack, store, workers, api=api)
            token = _admin_token(settings) if url is not None else ""
            token_path = None if settings.admin_token else _token_path(settings)
            emit(
                ServiceStarted(
                    roles=tuple(role for role, on in (("api", api), ("worker", worker)) if on),
                    listen=url,
                    database=store.kind,
                    bearer_file=str(token_path) if api and token_path is not None else None,
                )
            )
            yield Running(url if api else None, token, token_path)
        emit(ServiceStopped(handed_back=workers.current.handed_back if workers is not None else 0))
    except BaseExceptionGroup as group:
        # Each part lives in a task group; what stopped one of them is what the caller wants.
        raise _first_cause(group) from group


async def serve_until_stopped(settings: Settings, *, api: bool, worker: bool) -> None:
    """Run until SIGTERM or SIGINT, then drain and return. Raises SitepairError."""
    stop = asyncio.Event()
    starting = asyncio.current_task()

    def interrupt() -> None:
        stop.set()
        if starting is not None:  # Still starting, which may take minutes: give that up.
            starting.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupt)
    try:
        async with running(settings, api=api, worker=worker):
            starting = None
            await stop.wait()
    except asyncio.CancelledError:
        if starting is None or not stop.is_set():
            raise
        starting.uncancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@dataclass(slots=True)
class _Drain:
    """How long the next part may take to write what it was handed."""

    within_s: float = _DRAIN_S


@dataclass(frozen=True, slots=True)
class _Store:
    """What API and worker share."""

    settings: Settings
    url: str = field(repr=False)
    kind: str
    database: Database
    appliances: Appliances
    listener: Listener
    egress: EgressPolicy
    keys: Sequence[bytes] = field(repr=False)
    metrics: Metrics
    drain: _Drain = field(default_factory=_Drain)


async def _open_store(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> _Store:
    url, kind = await database_url(stack, settings)
    if settings.database_url is None:
        await stack.enter_async_context(_background(keep_own_database(settings)))
        await upgrade(url)
    await refuse_other_schema(url)
    keys = settings.secret_keys or (load_or_create_key(_key_path(settings)),)
    database = await stack.enter_async_context(Database.connect(url))
    listener = Listener(url)
    await stack.enter_async_context(_background(listener.run()))
    return _Store(
        settings=settings,
        url=url,
        kind=kind,
        database=database,
        appliances=Appliances(database, Vault(keys), wall_ms),
        listener=listener,
        egress=EgressPolicy(settings.egress_allow, settings.egress_deny),
        keys=keys,
        metrics=metrics,
    )


async def _start_worker(stack: AsyncExitStack, store: _Store, policy: Policy) -> Succession:
    journal = await _journal(stack, store)
    timeouts = CallTimeouts(change_s=policy.call_s)
    conditions, openings = Conditions(store.egress, timeouts), Signal()
    registrations = Registrations(store.appliances)
    await stack.enter_async_context(_background(registrations.run()))
    logins = LoginGates(store.database, wall_ms, lambda: workers.current.id)
    await stack.enter_async_context(_background(logins.run()))
    fleet = ApplianceFleet(registrations.of, conditions, logins.of, on_open=openings.announce)
    await stack.enter_async_context(fleet)
    # A connection for the heartbeat alone: a worker that had to wait for one would count as dead.
    vital = await stack.enter_async_context(Database.connect(store.url, pool_size=1))

    def born() -> Worker:
        worker_id = WorkerId(uuid_utils.compat.uuid7())
        ports = Ports(
            claims=Claims(store.database, worker_id),
            journal=journal,
            heartbeat=Heartbeat(vital, worker_id),
            fleet=fleet,
            breakers=fleet,
            health=Health(store.database),
            due=store.listener.due,
            cancels=store.listener.cancels,
            openings=openings,
        )
        return Worker(worker_id, ports, clock=wall_ms, policy=policy)

    workers = Succession(born)
    store.metrics.watch_worker(lambda: workers.current.figures)
    await stack.enter_async_context(_background(keep_partitions(store.database)))
    await stack.enter_async_context(_background(workers.run()))
    return workers


async def _journal(stack: AsyncExitStack, store: _Store) -> Journal:
    journal = Journal(store.database.lane())
    store.metrics.watch_journal(lambda: journal.figures)
    await stack.enter_async_context(_drained(journal, store.drain))
    return journal


async def _start_http(
    stack: AsyncExitStack, store: _Store, workers: Succession | None, *, api: bool
) -> str | None:
    """Serve the API, or what a process without it may tell; where it listens, if anywhere."""
    address = store.settings.listen if api else store.settings.metrics_listen
    if address is None:
        return None

    schema = SingleFlight(lambda: current_state(store.url))
    await stack.enter_async_context(_background(schema.run()))

    async def objection() -> str | None:
        return await _objection(schema, workers)

    token = _admin_token(store.settings)
    process = ProcessParts(objection=objection, metrics=store.metrics, admin_token=token)
    if not api:
        return await _listen(stack, build_without_api(process), address)
    return await _listen(stack, build(process, await _api_parts(stack, store)), address)


async def _api_parts(stack: AsyncExitStack, store: _Store) -> ApiParts:
    intake = Intake(store.database, wall_ms)
    await stack.enter_async_context(_drained(intake, store.drain))
    # Not the worker's: a retry that is refused rolls back the group that it is in.
    journal = await _journal(stack, store)

    logins = LoginGates(store.database, wall_ms)
    await stack.enter_async_context(_background(logins.run()))

    async def check_one(registration: Registration) -> CheckReport:
        told = logins.of(registration).tell
        return await check(registration, store.egress, on_login=told)

    return ApiParts(
        appliances=store.appliances,
        health=Health(store.database),
        intake=intake,
        bulk=BulkIntake(store.database, wall_ms),
        batches=Batches(store.database),
        pairings=Pairings(store.database),
        cancels=Cancels(store.database),
        retries=Retries(store.database, journal, wall_ms),
        over=store.listener.over,
        audit=Audit(store.database),
        anything=store.listener.anything,
        spool_dir=store.settings.data_dir / "tmp",
        check=check_one,
        egress_forbids=store.egress.objection_to,
        # Derived, so that every process of one database has the same without another setting.
        cursor_keys=[hmac.digest(key, b"sitepair cursor", hashlib.sha256) for key in store.keys],
    )


async def _listen(stack: AsyncExitStack, app: web.Application, address: tuple[str, int]) -> str:
    runner = ApiRunner(app, shutdown_timeout_s=_ANSWERS_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    host, port = address
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise SitepairError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    bound = runner.addresses[0][1]
    return f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"


async def _objection(schema: SingleFlight[SchemaState], workers: Succession | None) -> str | None:
    """Why requests cannot be served; None if they can."""
    try:
        state = await schema.get()
    except NotOurs:
        return "The database is another application's."
    except (StoreUnavailable, TimeoutError):
        return "The database does not answer."
    if state.standing is Standing.BEHIND:
        return "The database's schema is behind."
    if state.is_read_only:
        return "The database is read-only."
    if workers is not None and workers.current.trouble is not None:
        return "No pairings can be claimed."
    return None


@asynccontextmanager
async def _drained(part: Journal | Intake, drain: _Drain) -> AsyncIterator[None]:
    """`part` runs within the block; at its end, what was handed over is committed first, unless
    that takes too long: then who waits is told that it is not known."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(part.run())
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(drain.within_s):
                    await part.stop()
            except TimeoutError:
                error = f"no answer within {drain.within_s:g} s"
                emit(StoreTroubled(doing="stopping", error=error))
                running.cancel()
                drain.within_s = _DRAIN_LATER_S


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` runs within the block, is cancelled and awaited at its end; its failure ends both."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        finally:
            task.cancel()


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    cause: BaseException = group
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause


def _admin_token(settings: Settings) -> str:
    if settings.admin_token is not None:
        return settings.admin_token
    return base64.b64encode(load_or_create_key(_token_path(settings))).decode()


def _token_path(settings: Settings) -> Path:
    return settings.data_dir / "admin.token"


def _key_path(settings: Settings) -> Path:
    return settings.data_dir / "secret.key"
