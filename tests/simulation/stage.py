"""All parts of one run, set up as its schedule says, and what can be done to them."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from service.domain.appliance import normalized_url
from service.domain.ids import ApplianceName
from service.domain.registration import (
    ApplianceSpec,
    Credentials,
    LocalUser,
    Registration,
    SsoUser,
)
from service.domain.thumbprint import Thumbprint
from simulator.appliance import Identity, Peer
from simulator.pairing import address_of
from simulator.peers import posted_as
from simulator.wire import Call
from simulator.world import World
from tests.simulation.appliances import BEGINNING_MS, Air, identity, thumbprint
from tests.simulation.clockwork import Clock, Clockwork, Node
from tests.simulation.database import Database
from tests.simulation.process import Process
from tests.simulation.schedule import Before, Schedule
from tests.simulation.tables import Tables


class Trace:
    """What happened, line by line, if anybody wants to read it."""

    def __init__(self, loop: Clockwork, *, is_wanted: bool) -> None:
        self.lines: list[str] = []
        self.is_wanted = is_wanted
        self._loop = loop

    def tell(self, who: str, what: str) -> None:
        """One line."""
        if self.is_wanted:
            self.lines.append(f"{self._loop.instant:10.4f}  {who:<12} {what}")


class Stage:
    """The parts. Everything random about them comes from the schedule's seed."""

    def __init__(self, schedule: Schedule, *, is_traced: bool) -> None:
        self.schedule = schedule
        self.loop = Clockwork(self._rng("order"))
        self.trace = Trace(self.loop, is_wanted=is_traced)
        self.rng = self._rng("stage")
        self.weather = schedule.weather
        self.database = self._database()
        self.air = self._air()
        self.names = tuple(self.air.world.appliances)
        self.processes: list[Process] = []
        self.step_s = 0.0
        """How far the database's clock was set since the beginning."""
        self.stepped_at_s = float("-inf")
        self.disturbed: dict[str, float] = {}
        """When something else than the service last changed what is true of an appliance."""
        self.sso_users: set[str] = set()
        """The appliances at which the service is registered with a user of the single sign-on."""
        self.moved: set[str] = set()
        """The appliances that are reached by their peers at another address than at first."""
        self._register_all()
        self._prepare_couples()
        for clock in schedule.clocks:
            self.start_process(clock)

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{purpose} {self.schedule.seed}")

    # Making the parts.

    def _database(self) -> Database:
        clock = self.schedule.database
        node = self.loop.node("database", clock)
        tables = Tables(
            clock=lambda: node.local(self.loop.instant) + self.step_s,
            wall=lambda: self.now_ms + clock.skew_ms + int(self.step_s * 1000),
        )
        database = Database(self.loop, node, tables, self._rng("database"), self.weather)
        database.tell = self.trace.tell
        return database

    def _air(self) -> Air:
        rng = self._rng("identities")
        identities = [
            identity(f"site-{index + 1}", index, rng) for index in range(len(self.schedule.knobs))
        ]
        world = World(identities, self.schedule.knobs[0], self.schedule.seed)
        parts = zip(
            world.appliances.values(), self.schedule.knobs, self.schedule.skews_ms, strict=True
        )
        for appliance, knobs, skew_ms in parts:
            appliance.knobs = knobs
            appliance.offset_ms = skew_ms
        return Air(self.loop, world, self._rng("air"), self.weather, self.trace.tell)

    def _register_all(self) -> None:
        for name in self.names:
            self.register(name)

    def register(self, name: str, password: str | None = None) -> None:
        """What an operator would register now: certificates as presented, and a password that is
        the right one unless it is given."""
        appliance = self.air.world.appliances[name]
        known = self.database.tables.registrations.get(ApplianceName(name))
        spec = ApplianceSpec(
            name=ApplianceName(name),
            management_url=appliance.identity.management_url,
            api_url=appliance.identity.api_url,
            api_thumbprint=Thumbprint(appliance.api_thumbprint),
            credentials=self._credentials(appliance.identity, password),
            thumbprint=Thumbprint(appliance.thumbprint),
        )
        if known is not None and known.spec == spec:
            return
        now = self.now_ms
        if known is None:
            number = UUID(int=self.rng.getrandbits(128))
            registration = Registration(number, spec, 1, now, now)
        else:
            is_new = known.spec.credentials != spec.credentials
            before = dict.fromkeys((normalized_url(known.spec.api_url), *known.former_api_urls))
            registration = replace(
                known,
                former_api_urls=tuple([u for u in before if u != normalized_url(spec.api_url)]),
                spec=spec,
                version=known.version + 1,
                last_updated=now,
                credentials_version=known.credentials_version + is_new,
            )
        self.database.tables.register(registration)
        self.database.settle()
        self.trace.tell("operator", f"registers {name}, version {registration.version}")

    def _credentials(self, who: Identity, password: str | None) -> Credentials:
        if who.name in self.sso_users:
            return SsoUser(who.sso_username, password or who.sso_password)
        return LocalUser(who.username, password or who.password)

    def _prepare_couples(self) -> None:
        for (one, other), before in self.schedule.before.items():
            a, b = self.names[one], self.names[other]
            if before in {Before.PAIRED, Before.OUTDATED, Before.ONE_SIDED}:
                self.pair_by_hand(a, b)
            if before in {Before.PAIRED, Before.OUTDATED}:
                self.pair_by_hand(b, a)
        outdated = [b for (_, b), each in self.schedule.before.items() if each is Before.OUTDATED]
        for number in dict.fromkeys(outdated):
            self.rotate(self.names[number])
            self.register(self.names[number])

    def pair_by_hand(self, holder: str, peer: str) -> None:
        """Somebody made a record of `peer` on `holder`, without this service."""
        appliances = self.air.world.appliances
        here, there = appliances[holder], appliances[peer]
        url = posted_as(there.identity.api_url, here.knobs)
        record = Peer(there.site_id, there.name, "by hand", url, there.api_thumbprint)
        here.peers[there.site_id] = record

    def call_by_hand(self, holder: str, peer: str, *, pairs: bool) -> None:
        """Somebody calls the appliance's API, as the very user that the service is there too."""
        world, there = self.air.world, self.air.world.appliances[peer]
        who = world.appliances[holder].identity
        login = {"type": "localUser", "localUser": who.username, "localPassword": who.password}
        session = world.answer(
            holder, Call("POST", "/sessions", body=json.dumps(login).encode()), self.now_ms
        )
        wish = {"apiUrl": there.identity.api_url, "apiThumbprint": there.api_thumbprint}
        answer = world.answer(
            holder,
            Call(
                "POST" if pairs else "DELETE",
                "/sites" if pairs else f"/sites/{there.site_id}",
                body=json.dumps(wish).encode() if pairs else b"",
                token=session.headers.get("X-VCAV-Auth"),
                operation_id="by-hand",
            ),
            self.now_ms,
        )
        what = "pairs" if pairs else "unpairs"
        self.trace.tell("somebody", f"{what} {holder} with {peer} by hand: {answer.status}")

    def set_clock(self, by_s: float) -> None:
        """The database's clock jumps."""
        self.step_s += by_s
        self.stepped_at_s = self.loop.instant
        self.trace.tell("database", f"its clock is set by {by_s:.1f} s")

    def rotate(self, name: str) -> None:
        """The appliance presents another certificate to its peers."""
        self.disturbed[name] = self.loop.instant
        self.air.world.rotate(name, "api", thumbprint(self.rng), self.now_ms)
        self.trace.tell(name, "presents another certificate")

    def move(self, name: str) -> None:
        """Its peers are to reach the appliance at another address, some of them at that only."""
        world = self.air.world
        appliance = world.appliances[name]
        old = appliance.identity.api_url
        new = f"https://10.72.{self.rng.randrange(250)}.{self.rng.randrange(250)}:8048/"
        appliance.identity = replace(appliance.identity, api_url=new)
        self.moved.add(name)
        world._by_address[address_of(new)] = appliance
        # Under an address where nobody is some would make a record of nobody, for good.
        ways = {each.knobs.unreachable_peer for each in world.appliances.values()}
        if "succeeds" not in ways and self.rng.random() < 0.5:
            del world._by_address[address_of(old)]
        self.trace.tell(name, f"is reached by its peers at {new}, before at {old}")

    def forget_moves(self) -> None:
        """By hand, records are brought up to date that the service cannot know."""
        for holder in self.air.world.appliances.values():
            for record in holder.peers.values():
                if self.is_unknown(record):
                    url = self.air.world.appliances[record.site].identity.api_url
                    record.url = posted_as(url, holder.knobs)
                    record.shown = None

    def is_unknown(self, record: Peer) -> bool:
        """Whether it is under a URL that is not registered, and was not since its appliance was
        removed and registered again: such a record stays unseen (docs/architecture.md)."""
        registration = self.database.tables.registrations.get(ApplianceName(record.site))
        if registration is None:
            return False
        endpoint = registration.endpoint
        known = {normalized_url(endpoint.api_url), *endpoint.former_api_urls}
        return normalized_url(record.url) not in known

    # What time it is, and who works.

    @property
    def now_ms(self) -> int:
        """The true time of day."""
        return BEGINNING_MS + int(self.loop.instant * 1000)

    def start_process(self, clock: Clock) -> Process:
        """One more worker process."""
        name = f"worker-{len(self.processes) + 1}"
        node = self.loop.node(name, clock)
        rng = self._rng(f"process {name}")
        process = Process(node, self.database, self.air, self.schedule.policy, rng)
        self.processes.append(process)
        process.task = self.loop.start(node, process.run())
        self.trace.tell(name, "starts")
        return process

    def start_another(self, like: Process) -> Process:
        """A new process in place of one that is no more, on the same machine."""
        return self.start_process(like.node.clock)

    @property
    def living(self) -> Sequence[Process]:
        """The processes that could still do something."""
        return [each for each in self.processes if each.is_up]

    def process_of(self, node: Node) -> Process | None:
        """The process that runs, or ran, on a node."""
        return next((each for each in self.processes if each.node is node), None)
