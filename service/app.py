"""The one place that wires: names every concrete class, starts each part, stops it in reverse."""

import asyncio
import base64
import hashlib
import hmac
import shutil
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uuid_utils.compat
from aiohttp import web

from service.api.parts import ApiParts, Readiness
from service.api.routes import build
from service.api.serving import ApiRunner
from service.appliance.check import CheckReport, check
from service.appliance.egress import EgressPolicy
from service.appliance.fleet import ApplianceFleet
from service.domain.errors import SitepairError, StoreUnavailable
from service.domain.ids import WorkerId
from service.domain.registration import Registration
from service.engine.policy import Policy
from service.engine.ports import Ports
from service.engine.worker import Worker
from service.observe.events import (
    DatabaseStarting,
    ServiceStarted,
    ServiceStopped,
    StoreTroubled,
)
from service.observe.logging import emit
from service.settings import Settings
from service.store.appliances import Appliances
from service.store.claims import Claims
from service.store.database import Database
from service.store.embedded import embedded_postgres
from service.store.intake import Intake
from service.store.journal import Journal
from service.store.migrate import Standing, current_state, upgrade
from service.store.notify import Listener
from service.store.pairings import Pairings
from service.store.partitions import make_partitions
from service.store.vault import Vault, load_or_create_key

_DAY_S = 86_400.0
_DRAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Running:
    """A service that is up. `url` is None when it serves no API."""

    url: str | None
    admin_token: str = field(repr=False)
    admin_token_path: Path | None
    database: str


@asynccontextmanager
async def running(
    settings: Settings, *, api: bool = True, worker: bool = True, policy: Policy | None = None
) -> AsyncIterator[Running]:
    """The whole service, or its API or worker alone; stopped cleanly at the end of the block.

    Raises SitepairError when it cannot be started as configured.
    """
    try:
        async with AsyncExitStack() as stack:
            store = await _open_store(stack, settings)
            patience = policy or Policy(verify_timeout_s=settings.verify_timeout_s)
            worker_here = await _start_worker(stack, store, patience) if worker else None
            url = await _start_api(stack, store, worker_here) if api else None
            emit(
                ServiceStarted(
                    roles=tuple(role for role, on in (("api", api), ("worker", worker)) if on),
                    listen=url,
                    database=store.kind,
                )
            )
            token_path = None if settings.admin_token else _token_path(settings)
            yield Running(url, _admin_token(settings), token_path, store.kind)
    except BaseExceptionGroup as group:
        # Each part lives in a task group; what stopped one of them is what the caller wants.
        raise _first_cause(group) from group


async def serve_until_stopped(settings: Settings, *, api: bool = True, worker: bool = True) -> None:
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


async def migrate(settings: Settings) -> str:
    """Bring the database to this version's schema; says what was done. Raises SitepairError."""
    async with AsyncExitStack() as stack:
        url, kind = await _database_url(stack, settings)
        before = await current_state(url)
        after = await upgrade(url)
        return f"{kind} database: {before.found or 'empty'} -> {after.found}, {after.standing}"


async def discard(data_dir: Path) -> None:
    """Remove what a service left in `data_dir`, its own PostgreSQL included, running or not."""
    if (data_dir / "postgres" / "data" / "postmaster.pid").exists():
        # A killed service leaves its server behind; the last one out stops it.
        async with embedded_postgres(data_dir):
            pass
    await asyncio.to_thread(shutil.rmtree, data_dir, ignore_errors=True)


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
    secret: bytes = field(repr=False)


async def _open_store(stack: AsyncExitStack, settings: Settings) -> _Store:
    url, kind = await _database_url(stack, settings)
    if settings.database_url is None:
        await upgrade(url)
    await _refuse_other_schema(url)
    keys = settings.secret_keys or (load_or_create_key(_key_path(settings)),)
    database = await stack.enter_async_context(Database.connect(url))
    listener = Listener(url)
    await stack.enter_async_context(_background(listener.run()))
    return _Store(
        settings=settings,
        url=url,
        kind=kind,
        database=database,
        appliances=Appliances(database, Vault(keys), _now_ms),
        listener=listener,
        egress=EgressPolicy(settings.egress_allow, settings.egress_deny),
        secret=keys[0],
    )


async def _database_url(stack: AsyncExitStack, settings: Settings) -> tuple[str, str]:
    if settings.database_url is not None:
        return settings.database_url, "external"
    directory = settings.data_dir

    def tell(waited_s: float) -> None:
        emit(DatabaseStarting(data_dir=str(directory), waited_s=waited_s))

    return await stack.enter_async_context(embedded_postgres(directory, on_wait=tell)), "own"


async def _refuse_other_schema(url: str) -> None:
    state = await current_state(url)
    if state.standing is Standing.BEHIND:
        raise SitepairError(
            f"The database's schema is at {state.found or 'nothing'}, this release needs "
            f"{state.expected}: run `sitepair migrate` first."
        )


async def _start_worker(stack: AsyncExitStack, store: _Store, policy: Policy) -> Worker:
    worker_id = WorkerId(uuid_utils.compat.uuid7())
    journal = Journal(store.database)
    await stack.enter_async_context(_drained(journal))
    fleet = ApplianceFleet(store.appliances.get, store.egress)
    await stack.enter_async_context(fleet)
    ports = Ports(Claims(store.database, worker_id), journal, fleet, store.listener.due)
    worker = Worker(worker_id, ports, clock=_now_ms, policy=policy)
    stack.callback(lambda: emit(ServiceStopped(handed_back=worker.handed_back)))
    await stack.enter_async_context(_background(_keep_partitions(store.database)))
    await stack.enter_async_context(_background(worker.run()))
    return worker


async def _start_api(stack: AsyncExitStack, store: _Store, worker: Worker | None) -> str:
    intake = Intake(store.database, _now_ms)
    await stack.enter_async_context(_drained(intake))

    async def check_one(registration: Registration) -> CheckReport:
        return await check(registration, store.egress)

    async def readiness() -> Readiness:
        return await _readiness(store, worker)

    parts = ApiParts(
        appliances=store.appliances,
        intake=intake,
        pairings=Pairings(store.database),
        over=store.listener.over,
        check=check_one,
        ready=readiness,
        egress_forbids=store.egress.check_literal,
        admin_token=_admin_token(store.settings),
        # Derived, so that every process of one database has the same without another setting.
        cursor_key=hmac.digest(store.secret, b"sitepair cursor", hashlib.sha256),
    )
    runner = ApiRunner(build(parts), shutdown_timeout_s=_DRAIN_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    host, port = store.settings.listen
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise SitepairError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    bound = runner.addresses[0][1]
    return f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"


async def _readiness(store: _Store, worker: Worker | None) -> Readiness:
    try:
        state = await current_state(store.url)
    except StoreUnavailable:
        return Readiness(ok=False, reasons=("The database does not answer.",))
    if state.standing is Standing.BEHIND:
        return Readiness(ok=False, reasons=("The database's schema is behind.",))
    if worker is not None and worker.trouble is not None:
        return Readiness(ok=False, reasons=("No pairings can be claimed.",))
    return Readiness(ok=True)


async def _keep_partitions(database: Database) -> None:
    while True:
        try:
            async with database.transaction() as connection:
                await make_partitions(connection)
        except StoreUnavailable as trouble:
            emit(StoreTroubled(doing="making partitions", error=str(trouble)))
        await asyncio.sleep(_DAY_S)


@asynccontextmanager
async def _drained(part: Journal | Intake) -> AsyncIterator[None]:
    """`part` runs within the block; at its end, what was handed over is committed first."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(part.run())
        try:
            yield
        finally:
            async with asyncio.timeout(_DRAIN_S):
                await part.stop()


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


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
