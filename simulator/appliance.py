"""One appliance: who it is, and everything it remembers."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.faults import RuleBook
from simulator.knobs import Knobs
from simulator.sessions import Sessions
from simulator.tasks import Look, Tasks
from simulator.wire import ApiError, ManagerPeerInfo


@dataclass(frozen=True, slots=True)
class Identity:
    """What an appliance is born with. `tunnel_cert` is base64 DER without armour (h4-api 2.2)."""

    name: str
    site_id: str
    tunnel_id: str
    api_url: str
    management_url: str
    thumbprint: str
    api_thumbprint: str
    tunnel_cert: str
    username: str
    password: str = field(repr=False)
    sso_username: str
    sso_password: str = field(repr=False)


@dataclass(slots=True, eq=False)
class Peer:
    """What one appliance holds of another: the record that a pair task creates.

    `shown` is what GET /sites says of it, kept until `stale_ms`, from when it is made anew. Nobody
    sets `shown` but `peers.show`.
    """

    id: str
    site: str
    description: str
    url: str
    thumbprint: str
    forced: ApiError | None = None
    shown: ManagerPeerInfo | None = None
    stale_ms: int | None = None


@dataclass(slots=True, eq=False)
class Appliance:
    """The state of one appliance. `neighbours` are all appliances of the world by site id."""

    identity: Identity
    knobs: Knobs
    neighbours: Mapping[str, "Appliance"]
    sessions: Sessions
    faults: RuleBook
    thumbprint: str
    api_thumbprint: str
    tasks: Tasks = field(default_factory=Tasks)
    peers: dict[str, Peer] = field(default_factory=dict)
    former: set[str] = field(default_factory=set)
    """Site ids it was paired with once: their comm error has other words (h4-api 2.3)."""
    offset_ms: int = 0
    booted_ms: int = 0
    kept_list: tuple[Peer, ...] = ()
    kept_until_ms: int = 0
    darkness: int = 0
    """The number of the darkness it is in; 0 is none."""

    @property
    def is_dark(self) -> bool:
        """Whether its peers can not reach it."""
        return self.darkness != 0

    @property
    def name(self) -> str:
        """The site's name, as its peers learn it."""
        return self.identity.name

    @property
    def site_id(self) -> str:
        """The site's id, as its peers learn it."""
        return self.identity.site_id

    def look(self, now: int) -> Look:
        """How it shows its tasks at `now`."""
        return Look(now, self.offset_ms, self.identity.name, self.knobs)

    def listed(self, now: int) -> tuple[Peer, ...]:
        """What GET /sites lists at `now`: what it did before, until that is `list_lag_ms` old."""
        if now >= self.kept_until_ms:
            self.kept_list = tuple(self.peers.values())
            self.kept_until_ms = now + self.knobs.list_lag_ms
        return self.kept_list

    def restart(self, now: int) -> None:
        """Sessions are gone; tasks go or stay by the knob."""
        self.sessions.drop_all()
        if not self.knobs.tasks_survive_restart:
            self.tasks.abandon()
        self.booted_ms = now
        self.kept_until_ms = now


def born(
    identity: Identity, knobs: Knobs, neighbours: Mapping[str, Appliance], rng: random.Random
) -> Appliance:
    """A fresh appliance that knows nobody."""
    return Appliance(
        identity=identity,
        knobs=knobs,
        neighbours=neighbours,
        sessions=Sessions(rng),
        faults=RuleBook(rng),
        thumbprint=identity.thumbprint,
        api_thumbprint=identity.api_thumbprint,
    )
