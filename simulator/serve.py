"""The fleet: every appliance on a TLS port of its own, and one control endpoint for all of them.

The owner of a fleet holds everything: when its context ends, no port, connection, task or timer of
it is left, hung requests included.
"""

import asyncio
import gc
import random
import re
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from simulator import control
from simulator.appliance import Appliance, Identity
from simulator.certs import Authority, Certificate, present, self_signed, server_context
from simulator.handle import SimulatedAppliance
from simulator.knobs import Knobs
from simulator.listener import Listener, bound
from simulator.mischief import Mischief, respond
from simulator.wire import OPERATION_HEADER, TOKEN_HEADER, Call
from simulator.world import Which, World

if TYPE_CHECKING:
    import ssl

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ApiUrls = Literal["address", "name", "management"]


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What fleet to start. Port 0 means any free one; `base_port` counts up per appliance.

    `api_urls` says what the public endpoints look like: invented addresses
    (`https://10.71.0.1:8048/`), invented names (`https://site-1.example.test:8048/`), or the
    management address itself, which then presents the same certificate. `now` is a clock in ms, for
    tests that make time jump.
    """

    count: int = 2
    seed: int = 1
    knobs: Knobs = field(default_factory=Knobs)
    base_port: int = 0
    control_port: int = 0
    name_prefix: str = "site"
    api_urls: ApiUrls = "address"
    own_api_certificate: bool = True
    ca_signed: bool = False
    now: Callable[[], int] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a fleet that can not be."""
        if not 1 <= self.count <= 10_000:
            raise ValueError(f"a fleet has 1 to 10000 appliances, not {self.count}")
        if not _NAME.fullmatch(f"{self.name_prefix}-{self.count}"):
            raise ValueError(f"names are made of a-z, 0-9 and -, not {self.name_prefix!r}")
        last_port = self.base_port + self.count - 1 if self.base_port else 0
        if not (0 <= last_port <= 65_535 and 0 <= self.control_port <= 65_535):
            raise ValueError("ports go from 1 to 65535, 0 is any free one")


class Fleet:
    """A running fleet. Made by `Fleet.start` only."""

    def __init__(self, options: FleetOptions) -> None:
        self.options = options
        self.now = options.now or _clock()
        self.control_url = ""
        self.world: World
        self.appliances: list[SimulatedAppliance] = []
        self._authority = Authority()
        self._listeners: list[Listener] = []
        self._contexts: dict[str, ssl.SSLContext] = {}

    @classmethod
    @asynccontextmanager
    async def start(cls, options: FleetOptions | None = None) -> AsyncIterator["Fleet"]:
        """A fleet that answers, for the time of the context."""
        fleet = cls(options or FleetOptions())
        async with AsyncExitStack() as stack:
            await fleet._open(stack)
            yield fleet

    @property
    def ca_pem(self) -> str:
        """The root certificate that signs the management certificates of a `ca_signed` fleet."""
        return self._authority.pem.decode()

    def __getitem__(self, name: str) -> SimulatedAppliance:
        """The appliance of that name. Raises KeyError."""
        for appliance in self.appliances:
            if appliance.name == name:
                return appliance
        raise KeyError(name)

    def rotate(self, name: str, which: Which) -> None:
        """Give an appliance a new certificate; its services restart to present it (h4-api 6)."""
        state = self.world.appliances[name]
        certificate = self._issue(name)
        if state.thumbprint == state.api_thumbprint:
            which = "both"
        if which == "both" and not self._is_shared():
            self.world.rotate(name, "api", self_signed(name).thumbprint, self.now())
            which = "management"
        self.world.rotate(name, which, certificate.thumbprint, self.now())
        if which != "api":
            present(self._contexts[name], certificate)
            self[name].restart()

    def truth(self) -> dict[str, Any]:
        """The ground truth as the control endpoint tells it."""
        return control.truth_json(self)

    def as_json(self) -> dict[str, Any]:
        """All that a client of the fleet needs."""
        return {
            "controlUrl": self.control_url,
            "seed": self.options.seed,
            "appliances": [appliance.as_json() for appliance in self.appliances],
            "caPem": self.ca_pem if self.options.ca_signed else None,
        }

    async def _open(self, stack: AsyncExitStack) -> None:
        options = self.options
        sockets = [
            stack.enter_context(bound(options.base_port + index if options.base_port else 0))
            for index in range(options.count)
        ]
        certificates = [self._issue(self._name(index)) for index in range(options.count)]
        self.world = World(self._identities(sockets, certificates), options.knobs, options.seed)
        stack.push_async_callback(self._close)
        doors = zip(self.world.appliances.values(), sockets, certificates, strict=True)
        for state, sock, certificate in doors:
            await self._add(state, sock, certificate)
        self.control_url = await control.serve(stack, self, options.control_port)

    async def _close(self) -> None:
        await asyncio.gather(*(listener.close() for listener in self._listeners))

    async def _add(
        self,
        state: Appliance,
        sock: socket.socket,
        certificate: Certificate,
    ) -> None:
        context = self._contexts[state.name] = server_context()
        present(context, certificate)
        door = _Door(self, state)
        listener = door.listener = Listener(
            sock=sock,
            context=context,
            handler=door.handle,
            counts=lambda: self.world.truth.counts(state.name),
            keep_alive_s=lambda: state.knobs.keep_alive_ms / 1000,
        )
        door.mischief = Mischief(self.world, listener, self.now)
        self._listeners.append(listener)
        await listener.open()
        self.appliances.append(SimulatedAppliance(self, state, listener))

    def _identities(
        self, sockets: list[socket.socket], certificates: list[Certificate]
    ) -> list[Identity]:
        rng = random.Random(f"identities of {self.options.seed}")  # noqa: S311 - a seed has to replay
        return [
            self._identity(index, f"https://127.0.0.1:{sock.getsockname()[1]}", certificate, rng)
            for index, (sock, certificate) in enumerate(zip(sockets, certificates, strict=True))
        ]

    def _identity(
        self, index: int, management_url: str, certificate: Certificate, rng: random.Random
    ) -> Identity:
        name = self._name(index)
        tunnel = self_signed("tunnel.vm")
        return Identity(
            name=name,
            site_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            tunnel_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            api_url=self._api_url(index, management_url),
            management_url=management_url,
            thumbprint=certificate.thumbprint,
            api_thumbprint=(certificate if self._is_shared() else self_signed(name)).thumbprint,
            tunnel_cert=tunnel.base64,
            username="root",
            password=rng.randbytes(12).hex(),
            sso_username="administrator@vsphere.local",
            sso_password=rng.randbytes(12).hex(),
        )

    def _api_url(self, index: int, management_url: str) -> str:
        match self.options.api_urls:
            case "address":
                return f"https://10.71.{index // 250}.{index % 250 + 1}:8048/"
            case "name":
                return f"https://{self._name(index)}.example.test:8048/"
            case "management":
                return management_url + "/"

    def _name(self, index: int) -> str:
        return f"{self.options.name_prefix}-{index + 1}"

    def _is_shared(self) -> bool:
        """Whether management and API present one certificate."""
        return self.options.api_urls == "management" or not self.options.own_api_certificate

    def _issue(self, name: str) -> Certificate:
        return self._authority.issue(name) if self.options.ca_signed else self_signed(name)


async def run_until_stopped(
    options: FleetOptions, on_ready: Callable[[Fleet], None] | None = None
) -> None:
    """A fleet that runs until SIGINT or SIGTERM; `on_ready` is called once it answers."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with Fleet.start(options) as fleet:
            # A fleet stays, and what comes and goes with a call is in no cycle.
            gc.freeze()
            gc.set_threshold(20_000, 20, 20)
            if on_ready is not None:
                on_ready(fleet)
            await stopped.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class _Door:
    """Carries requests of one port into the world, and answers out."""

    listener: Listener
    mischief: Mischief

    def __init__(self, fleet: Fleet, appliance: Appliance) -> None:
        self._fleet = fleet
        self._appliance = appliance

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request from arrival to answer."""
        call = await _call(request)
        world, now = self._fleet.world, self._fleet.now()
        visit = world.arrive(self._appliance, call, now)
        if visit.action is not None:
            return await self.mischief.play(request, visit, visit.action)
        answer = world.act(visit, now)
        world.leave(visit, now, answer.status)
        return respond(answer)


async def _call(request: web.BaseRequest) -> Call:
    headers, url = request.headers, request.rel_url
    return Call(
        method=request.method,
        path=url.raw_path,
        query_string=url.raw_query_string,
        body=await request.read() if request.can_read_body else b"",
        token=headers.get(TOKEN_HEADER),
        operation_id=headers.get(OPERATION_HEADER),
        accept=headers.get("Accept"),
        address=request.remote or "",
    )


def _clock() -> Callable[[], int]:
    """Wall time in ms that never steps back."""
    start = time.time() - time.monotonic()
    return lambda: int((start + time.monotonic()) * 1000)
