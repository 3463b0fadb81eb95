"""One appliance of a running fleet: what a client has to know of it, and the levers to pull."""

from typing import TYPE_CHECKING, Any, Literal

from simulator.appliance import Appliance
from simulator.faults import Rule
from simulator.listener import Listener
from simulator.world import Which

if TYPE_CHECKING:
    from simulator.serve import Fleet


class SimulatedAppliance:
    """The in-process handle on one appliance. What the control endpoint does, it does here."""

    def __init__(self, fleet: "Fleet", appliance: Appliance, listener: Listener) -> None:
        self._fleet = fleet
        self._appliance = appliance
        self._listener = listener

    @property
    def state(self) -> Appliance:
        """Its state in the pure world."""
        return self._appliance

    @property
    def name(self) -> str:
        """The site's name."""
        return self._appliance.name

    @property
    def site_id(self) -> str:
        """The id under which its peers list it."""
        return self._appliance.site_id

    @property
    def management_url(self) -> str:
        """Where a client calls it, without a slash at the end."""
        return self._appliance.identity.management_url

    @property
    def api_url(self) -> str:
        """What a client posts to its peers as `apiUrl`."""
        return self._appliance.identity.api_url

    @property
    def thumbprint(self) -> str:
        """Of the certificate that `management_url` presents now."""
        return self._appliance.thumbprint

    @property
    def api_thumbprint(self) -> str:
        """What a client posts to its peers as `apiThumbprint`."""
        return self._appliance.api_thumbprint

    @property
    def username(self) -> str:
        """The `localUser`."""
        return self._appliance.identity.username

    @property
    def password(self) -> str:
        """The `localPassword`."""
        return self._appliance.identity.password

    @property
    def sso_username(self) -> str:
        """The user of the single sign-on."""
        return self._appliance.identity.sso_username

    @property
    def sso_password(self) -> str:
        """Its password."""
        return self._appliance.identity.sso_password

    @property
    def connections(self) -> int:
        """How many connections are open on its port."""
        return self._listener.connections

    def turn(self, /, **changes: object) -> None:
        """Change knobs: `turn(bulk_poll="404")`. Raises BadKnob."""
        self._fleet.world.turn(self.name, changes, self._fleet.now())

    def add_fault(self, rule: Rule) -> str:
        """Arm a rule (see `faults.fault`); returns its id. Raises BadFault."""
        return self._appliance.faults.add(rule)

    def clear_faults(self) -> None:
        """Disarm all rules."""
        self._appliance.faults.clear()

    def rotate_certificate(self, which: Which = "both") -> None:
        """Present a new certificate. Management: its services restart (h4-api 6)."""
        self._fleet.rotate(self.name, which)

    def restart(self) -> None:
        """Sessions are gone, tasks by the knob, connections cut."""
        self._fleet.world.restart(self.name, self._fleet.now())
        self._listener.cut_all()

    async def down(
        self, mode: Literal["refuse", "slam"] = "refuse", ms: int = 0, *, peers_too: bool = False
    ) -> None:
        """Take no connections, for `ms` or until `up`; with `peers_too` from its peers neither."""
        if peers_too:
            self._fleet.world.darken(self.name, self._fleet.now(), ms)
        await self._listener.down(mode, ms)

    async def up(self) -> None:
        """Serve again."""
        self._fleet.world.lighten(self.name, self._fleet.now())
        await self._listener.up()

    def cut_connections(self) -> None:
        """Cut every open connection."""
        self._listener.cut_all()

    def expire_sessions(self) -> None:
        """Every token becomes unknown."""
        self._appliance.sessions.drop_all()

    def forget_tasks(self) -> None:
        """Every task becomes unknown; those that run still take effect."""
        self._fleet.world.settle(self._fleet.now())
        self._appliance.tasks.forget()

    def skew_clock(self, offset_ms: int) -> None:
        """Its clock is `offset_ms` ahead of everybody's."""
        self._appliance.offset_ms = offset_ms

    def as_json(self) -> dict[str, Any]:
        """All a client needs, for the control endpoint."""
        return {
            "name": self.name,
            "siteId": self.site_id,
            "managementUrl": self.management_url,
            "apiUrl": self.api_url,
            "thumbprint": self.thumbprint,
            "apiThumbprint": self.api_thumbprint,
            "credentials": {
                "type": "localUser",
                "localUser": self.username,
                "localPassword": self.password,
            },
            "ssoCredentials": {
                "type": "ssoCredentials",
                "username": self.sso_username,
                "password": self.sso_password,
            },
        }
