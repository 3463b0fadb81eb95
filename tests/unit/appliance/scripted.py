"""An appliance in memory, at the end of a channel: a client on virtual time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from service.appliance.conditions import Conditions
from service.appliance.egress import EgressPolicy
from service.appliance.exchange import Answer, Channel, Failure, FailureKind, Outcome, Permit
from service.appliance.exchange import Request as H4Request
from service.appliance.fleet import ApplianceFleet, own_gate
from service.appliance.gate import LoginGate
from service.appliance.limits import Limits
from service.domain.appliance import Endpoint
from service.domain.errors import UnknownAppliance
from service.domain.ids import ApplianceName
from service.domain.registration import ApplianceSpec, LocalUser, Registration
from service.domain.thumbprint import thumbprint_of
from tests.unit.appliance.values import an_answer, as_json

NAME = ApplianceName("site-1")
PEER = Endpoint(ApplianceName("site-2"), "https://two.example.test:8048/", thumbprint_of(b"two"))

DEAD = Failure(FailureKind.UNREACHABLE, "connection refused")
NO_ANSWER = Failure(FailureKind.SILENT, "no answer in time")


@dataclass(slots=True)
class Scripted:
    """Implements `Channel`. Whatever `play` answers; until told otherwise all is well."""

    play: Callable[[H4Request], Awaitable[Outcome]] = field(default_factory=lambda: all_is_well)
    calls: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    is_closed: bool = False

    async def send(self, request: H4Request, headers: Mapping[str, str], permit: Permit) -> Outcome:
        """Implements `Channel.send`."""
        assert "operationID" in headers
        if request.mutating:
            permit()
        self.calls[f"{request.method} {request.path}"] += 1
        self.log.append(f"{request.method} {request.path}")
        return await self.play(request)

    async def close(self) -> None:
        """Nothing is open."""
        self.is_closed = True

    def always(self, outcome: Outcome, after_s: float = 0.0) -> None:
        """Answer every call like this."""

        async def play(_: H4Request) -> Outcome:
            await asyncio.sleep(after_s)
            return outcome

        self.play = play

    @property
    def total(self) -> int:
        """How many calls came in."""
        return sum(self.calls.values())


async def all_is_well(request: H4Request) -> Answer:
    """Logs everybody in, has no peers, takes every change, and ends no task."""
    await asyncio.sleep(0.01)
    match request.method, request.path:
        case "POST", "/sessions":
            return an_answer(200, x_vcav_auth="token")
        case "GET", "/sites":
            return an_answer(200, b"[]")
        case "POST", "/tasks/poll":
            return an_answer(200, as_json({"propertyNames": ["id", "state"], "values": []}))
        case "GET", path if path.startswith("/tasks/"):
            return an_answer(200, as_json({"id": path[7:], "state": "RUNNING"}))
        case "GET", _:
            return an_answer(200, b"{}")
        case _:
            return an_answer(202, as_json({"id": "the task", "state": "RUNNING"}))


async def wrong_password(request: H4Request) -> Answer:
    """Refuses the login."""
    await asyncio.sleep(0.01)
    return an_answer(401, as_json({"code": "NotAuthenticated", "msg": "Authentication required."}))


def a_registration(version: int = 1) -> Registration:
    """The registration of `NAME`."""
    spec = ApplianceSpec(
        name=NAME,
        management_url="https://one.example.test/",
        api_url="https://one.example.test:8048/",
        api_thumbprint=thumbprint_of(b"one"),
        credentials=LocalUser("root", "secret"),
        max_in_flight=2,
    )
    return Registration(UUID(int=1), spec, version, 0, 0)


@dataclass(slots=True)
class World:
    """One registered appliance, and a fleet that knows it."""

    channel: Scripted
    registration: Registration
    fleet: ApplianceFleet


@asynccontextmanager
async def world(
    limits: Limits | None = None, gate_of: Callable[[Registration], LoginGate] = own_gate
) -> AsyncIterator[World]:
    """The fleet runs within."""
    channel = Scripted()

    def connect(_: ApplianceSpec, __: Conditions) -> Channel:
        return channel

    async def registration_of(name: ApplianceName) -> Registration:
        if name != NAME:
            raise UnknownAppliance(name)
        return made.registration

    conditions = Conditions(
        EgressPolicy(), limits=limits or Limits(), jitter=lambda: 0.0, clock=lambda: 1_000,
        connect=connect,
    )  # fmt: skip
    fleet = ApplianceFleet(registration_of, conditions, gate_of)
    made = World(channel, a_registration(), fleet)
    async with fleet:
        yield made
