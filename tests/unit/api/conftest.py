"""The API as it is served, over real PostgreSQL; only the appliances are not there."""

import asyncio
import io
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from aiohttp import web

from service.api.parts import ApiParts, ProcessParts
from service.api.routes import build
from service.api.serving import ApiRunner
from service.appliance.check import CheckReport
from service.appliance.egress import EgressPolicy
from service.domain.ids import PairingId
from service.domain.registration import Registration
from service.observe.logging import listening
from service.observe.metrics import Metrics
from service.resources import resource
from service.store.migrate import upgrade
from service.store.notify import Announcements
from tests.support.contract import ContractClient, contract_client
from tests.support.database import database_like
from tests.support.logs import captured_logs
from tests.unit.api.asking import spec_body
from tests.unit.api.stored import Store, stored

TOKEN = "the-token-of-these-tests"


@dataclass(slots=True)
class Preflight:
    """Stands where appliances would be looked at."""

    report: CheckReport = field(default_factory=lambda: CheckReport(()))
    error: Exception | None = None
    asked: list[Registration] = field(default_factory=list)

    async def __call__(self, registration: Registration) -> CheckReport:
        self.asked.append(registration)
        if self.error is not None:
            raise self.error
        return self.report


@dataclass(slots=True)
class Ready:
    """Says what it is told to."""

    objection: str | None = None

    async def __call__(self) -> str | None:
        return self.objection


class WatchedEvent(asyncio.Event):
    """Another event, and a signal for the test that somebody waits for it."""

    def __init__(self, event: asyncio.Event, awaited: asyncio.Event) -> None:
        super().__init__()
        self._event = event
        self._awaited = awaited

    async def wait(self) -> Literal[True]:
        self._awaited.set()
        return await self._event.wait()


class WatchedAnnouncements(Announcements):
    """Announcements, and a signal for the test that somebody waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: defaultdict[UUID, asyncio.Event] = defaultdict(asyncio.Event)

    @contextmanager
    def expect(self, pairing_id: PairingId) -> Iterator[asyncio.Event]:
        with super().expect(pairing_id) as over:
            yield WatchedEvent(over, self.awaited[pairing_id])


@dataclass(slots=True)
class Served:
    """The API on a port, a client with the token and one without."""

    host: str
    port: int
    client: ContractClient
    stranger: ContractClient
    store: Store
    over: WatchedAnnouncements
    check: Preflight
    readiness: Ready
    stop: Callable[[], Awaitable[None]]
    contract: Path = field(default_factory=lambda: resource("openapi.yaml"))

    def urls(self, name: str) -> dict[str, str]:
        """The URLs that `name` is registered with."""
        return {
            "managementUrl": f"https://{name}.example.com",
            "apiUrl": f"https://{name}.example.com:8048/",
        }

    async def register(self, name: str, **changes: object) -> Any:
        """Register `name`; the answer."""
        body = spec_body(**{**self.urls(name), **changes})
        answer = await self.client.call("PUT", f"/v1/appliances/{name}", json=body)
        assert answer.status == 201, answer
        return answer.json

    async def pair(self, one: str, other: str) -> Any:
        """Register two and ask for their pairing; the answer."""
        await self.register(one)
        await self.register(other)
        body = {"appliances": [one, other]}
        answer = await self.client.call("POST", "/v1/pairings", json=body)
        assert answer.status == 202, answer
        return answer.json

    async def until_awaited(self, pairing_id: str) -> None:
        """Return when a request waits for the end of this pairing."""
        await self.over.awaited[UUID(pairing_id)].wait()

    async def fail(self, pairing_id: str) -> None:
        """Bring the pairing to its end, as a worker would."""
        await self.store.fail(pairing_id)


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """All that is logged, as the lines of JSON that an operator would get."""
    with captured_logs() as stream:
        yield stream


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Served]:
    """The API over a database of this test's own."""
    async with served_over(database_url) as served:
        yield served


@pytest.fixture(scope="module")
async def shared(server_url: str) -> AsyncIterator[Served]:
    """The API for tests that leave no trace in its database, which stays empty."""
    async with database_like(server_url, "template0") as url:
        await upgrade(url)
        async with served_over(url) as served:
            yield served


@asynccontextmanager
async def served_over(database_url: str) -> AsyncIterator[Served]:
    """The API over this database, on a port."""
    over, check, readiness = WatchedAnnouncements(), Preflight(), Ready()
    async with AsyncExitStack() as stack:
        spool_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = await stack.enter_async_context(stored(database_url, over))
        process = ProcessParts(
            objection=readiness, metrics=stack.enter_context(counted()), admin_token=TOKEN
        )
        runner = ApiRunner(
            build(
                process,
                ApiParts(
                    appliances=store.appliances,
                    health=store.health,
                    intake=store.intake,
                    bulk=store.bulk,
                    batches=store.batches,
                    pairings=store.pairings,
                    cancels=store.cancels,
                    retries=store.retries,
                    over=over,
                    audit=store.audit,
                    anything=store.anything,
                    spool_dir=spool_dir,
                    check=check,
                    egress_forbids=EgressPolicy().objection_to,
                    cursor_keys=[b"k" * 32],
                ),
            ),
            shutdown_timeout_s=5.0,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        url = f"http://{host}:{port}"
        client = await stack.enter_async_context(contract_client(url, TOKEN))
        stranger = await stack.enter_async_context(contract_client(url, None))
        yield Served(host, port, client, stranger, store, over, check, readiness, runner.cleanup)


@contextmanager
def counted() -> Iterator[Metrics]:
    """The metrics of what happens within."""
    metrics = Metrics()
    with listening(metrics.see):
        yield metrics
