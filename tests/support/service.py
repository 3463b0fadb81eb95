"""A whole service over real PostgreSQL and simulated appliances over real TLS, for a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from service.app import running
from service.engine.policy import Policy
from service.settings import Settings
from simulator import Fleet, FleetOptions
from simulator.handle import SimulatedAppliance
from tests.support.contract import Answer, ContractClient, contract_client

QUICK = Policy(idle_s=1.0, verify_timeout_s=10.0, settle_s=0.05, list_patience_s=3.0, grace_s=2.0)


@dataclass(slots=True)
class ServiceUnderTest:
    """A running service and the fleet that it may call."""

    url: str
    token: str
    fleet: Fleet
    client: ContractClient
    answers: list[str] = field(default_factory=list)

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request; its answer is checked against the contract."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.call(method, path, json=body, headers=sent)
        self.answers.append(f"{dict(answer.headers)} {answer.body!r}")
        return answer

    async def register(self, *appliances: SimulatedAppliance, **changes: object) -> list[str]:
        """Register simulated appliances; all of the fleet if none is named."""
        names = []
        for appliance in appliances or tuple(self.fleet.appliances):
            body = {**registration_of(appliance), **changes}
            answer = await self.call("PUT", f"/v1/appliances/{appliance.name}", body)
            assert answer.status in {200, 201}, answer
            names.append(appliance.name)
        return names

    async def pair(self, one: str, other: str, **headers: str) -> Any:
        """Ask for a pairing; the accepted one."""
        body = {"appliances": [one, other]}
        answer = await self.call("POST", "/v1/pairings", body, **headers)
        assert answer.status == 202, answer
        return answer.json

    async def over(self, pairing: Any) -> Any:
        """The pairing at its end."""
        while True:
            answer = await self.call("GET", f"/v1/pairings/{pairing['id']}?waitSeconds=30")
            assert answer.status == 200, answer
            if answer.json["endTime"] != -1:
                return answer.json

    async def events(self, pairing: Any) -> list[Any]:
        """Its audit trail."""
        answer = await self.call("GET", f"/v1/pairings/{pairing['id']}/events")
        return list(answer.json["items"])


def registration_of(appliance: SimulatedAppliance) -> dict[str, object]:
    """The body that registers a simulated appliance."""
    return {
        "managementUrl": appliance.management_url,
        "apiUrl": appliance.api_url,
        "thumbprint": appliance.thumbprint,
        "apiThumbprint": appliance.api_thumbprint,
        "credentials": {
            "type": "localUser",
            "localUser": appliance.username,
            "localPassword": appliance.password,
        },
    }


def settings_for(database_url: str, data_dir: Path) -> Settings:
    """Settings of a service that may call the simulated fleet."""
    return Settings(
        data_dir=data_dir,
        listen=("127.0.0.1", 0),
        database_url=database_url,
        egress_allow=(ip_network("127.0.0.0/8"),),
    )


@asynccontextmanager
async def service_over(
    settings: Settings, fleet: Fleet, policy: Policy = QUICK
) -> AsyncIterator[ServiceUnderTest]:
    """A service over this database and fleet."""
    async with running(settings, policy=policy) as service:
        assert service.url is not None
        async with contract_client(service.url, service.admin_token) as client:
            yield ServiceUnderTest(service.url, service.admin_token, fleet, client)


@asynccontextmanager
async def fleet_of(count: int, *, seed: int = 7, **knobs: object) -> AsyncIterator[Fleet]:
    """A simulated fleet whose appliances all have `knobs`."""
    async with Fleet.start(FleetOptions(count=count, seed=seed)) as fleet:
        for appliance in fleet.appliances:
            appliance.turn(**knobs)
        yield fleet


def are_paired(fleet: Fleet, one: str, other: str) -> bool:
    """Whether, by the simulator's own account, both hold a record of the other that is right."""
    return _trusts(fleet, one, other) and _trusts(fleet, other, one)


def holds(fleet: Fleet, one: str, other: str) -> bool:
    """Whether, by the simulator's own account, `one` holds any record of `other`."""
    peer = fleet[other]
    return any(record["id"] == peer.site_id for record in fleet.truth()["appliances"][one]["peers"])


def _trusts(fleet: Fleet, one: str, other: str) -> bool:
    peer = fleet[other]
    return any(
        record["url"].rstrip("/") == peer.api_url.rstrip("/")
        and record["thumbprint"] == peer.api_thumbprint
        for record in fleet.truth()["appliances"][one]["peers"]
    )


def posts(fleet: Fleet) -> list[tuple[str, str | None]]:
    """Each `POST /sites` that an appliance accepted: which one, under which operationID."""
    fleet.truth()
    return sorted((call.appliance, call.operation_id) for call in fleet.world.truth.accepted)
