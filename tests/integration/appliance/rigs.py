"""Clients of simulated appliances, and what is measured about them."""

import asyncio
import io
import json
import logging
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from service.appliance.client import ApplianceClient
from service.appliance.conditions import Conditions
from service.appliance.egress import EgressPolicy, parse_networks
from service.appliance.fleet import ApplianceFleet
from service.appliance.http import HttpsChannel
from service.appliance.limits import CallTimeouts, Limits
from service.appliance.tls import trust_of
from service.domain.appliance import Endpoint
from service.domain.errors import UnknownAppliance
from service.domain.ids import ApplianceName
from service.domain.registration import ApplianceSpec, LocalUser, Registration
from service.domain.thumbprint import parse_thumbprint
from service.observe.logging import configure
from simulator import Fleet, FleetOptions, Knobs, SimulatedAppliance
from tests.integration.appliance.raw_server import RawServer

LOOPBACK = EgressPolicy(parse_networks("127.0.0.0/8 ::1"))
QUICK = CallTimeouts(connect_s=1.0, answer_s=1.0, total_s=2.0, logout_s=1.0)


def spec_of(appliance: SimulatedAppliance, **changes: Any) -> ApplianceSpec:
    """What an operator would register, with `changes`."""
    spec = ApplianceSpec(
        name=ApplianceName(appliance.name),
        management_url=appliance.management_url,
        api_url=appliance.api_url,
        api_thumbprint=parse_thumbprint(appliance.api_thumbprint),
        credentials=LocalUser(appliance.username, appliance.password),
        thumbprint=parse_thumbprint(appliance.thumbprint),
    )
    return replace(spec, **changes)


def registered(spec: ApplianceSpec, version: int = 1) -> Registration:
    """A registration of `spec`."""
    return Registration(uuid.UUID(int=1), spec, version, 0, 0)


class Registry:
    """Registrations, as the store gives them; counts how often it was asked."""

    def __init__(self, *registrations: Registration) -> None:
        self.asked = 0
        self._registrations = {each.spec.name: each for each in registrations}

    async def of(self, name: ApplianceName) -> Registration:
        """The registration under this name. Raises UnknownAppliance."""
        self.asked += 1
        await asyncio.sleep(0)  # As a database would, it lets others run meanwhile.
        if name not in self._registrations:
            raise UnknownAppliance(name)
        return self._registrations[name]

    def put(self, registration: Registration) -> Endpoint:
        """Register anew."""
        self._registrations[registration.spec.name] = registration
        return registration.endpoint

    def remove(self, name: ApplianceName) -> None:
        """Take out."""
        del self._registrations[name]


@asynccontextmanager
async def client_of(
    spec: ApplianceSpec,
    egress: EgressPolicy = LOOPBACK,
    timeouts: CallTimeouts = QUICK,
    limits: Limits | None = None,
    ca: ssl.SSLContext | None = None,
) -> AsyncIterator[ApplianceClient]:
    """A client by itself."""
    registry = Registry(registered(spec))
    async with (
        ApplianceFleet(registry.of, Conditions(egress, timeouts, limits or Limits(), ca)) as fleet,
        fleet.use(registered(spec).endpoint) as client,
    ):
        yield client


@asynccontextmanager
async def channel_to(
    server: RawServer,
    host: str = "127.0.0.1",
    timeouts: CallTimeouts = QUICK,
    limits: Limits | None = None,
) -> AsyncIterator[HttpsChannel]:
    """The way to a raw server, and nothing above it."""
    url = f"https://{host}:{server.port}"
    trust = trust_of(server.thumbprint)
    channel = HttpsChannel(url, trust, LOOPBACK, timeouts, limits or Limits())
    try:
        yield channel
    finally:
        await channel.close()


@dataclass(slots=True)
class Rig:
    """Two simulated appliances, a fleet that knows both, and a client of the first."""

    simulated: Fleet
    fleet: ApplianceFleet
    client: ApplianceClient
    here: SimulatedAppliance
    there: Endpoint
    registry: Registry

    def requests(self, call: str) -> int:
        """How often the first appliance was called like this, as in `GET /sites`."""
        return self.simulated.world.truth.counts(self.here.name).requests[call]

    @property
    def counts(self) -> Any:
        """What the first appliance counted."""
        return self.simulated.world.truth.counts(self.here.name)

    @property
    def accepted(self) -> int:
        """How many changes the appliances really accepted."""
        return len(self.simulated.world.truth.accepted)


@asynccontextmanager
async def rig(
    knobs: Knobs | None = None,
    *,
    timeouts: CallTimeouts = QUICK,
    limits: Limits | None = None,
    ca_signed: bool = False,
    **changes: Any,
) -> AsyncIterator[Rig]:
    """A rig; `changes` are made to the registration of the first appliance."""
    options = FleetOptions(count=2, seed=7, knobs=knobs or Knobs(), ca_signed=ca_signed)
    async with Fleet.start(options) as simulated:
        here, there = simulated.appliances
        registry = Registry(registered(spec_of(here, **changes)), registered(spec_of(there)))
        ca = ssl.create_default_context(cadata=simulated.ca_pem) if ca_signed else None
        conditions = Conditions(LOOPBACK, timeouts, limits or Limits(), ca)
        async with ApplianceFleet(registry.of, conditions) as fleet:
            endpoint = (await registry.of(ApplianceName(here.name))).endpoint
            async with fleet.use(endpoint) as client:
                peer = (await registry.of(ApplianceName(there.name))).endpoint
                yield Rig(simulated, fleet, client, here, peer, registry)


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; the test's own time limit ends the wait."""
    while not condition():  # noqa: ASYNC110 - the simulator announces nothing
        await asyncio.sleep(0.001)


class Lines:
    """What was logged."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        """All of it."""
        return self._stream.getvalue()

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The lines about calls to appliances."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["event"] == "appliance_called"]


@contextmanager
def logged() -> Iterator[Lines]:
    """What is logged within, as operators get it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(level="DEBUG", stream=stream)
    try:
        yield Lines(stream)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
