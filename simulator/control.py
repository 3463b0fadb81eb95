"""The control endpoint: plain HTTP on 127.0.0.1, for those who run the fleet in another process.

It tells the truth, turns knobs, arms faults and pulls levers. Bad input gets a 400 that says why.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import msgspec
from aiohttp import web

from simulator.faults import BadFault, parse_rule
from simulator.handle import SimulatedAppliance
from simulator.knobs import MOST, BadKnob
from simulator.truth import Kind, call_json, entry_json
from simulator.world import Which

if TYPE_CHECKING:
    from simulator.serve import Fleet

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")
Mode = Literal["refuse", "slam"]


_SIMPLE_LEVERS: dict[str, Callable[[SimulatedAppliance], None]] = {
    "restart": SimulatedAppliance.restart,
    "expire-sessions": SimulatedAppliance.expire_sessions,
    "forget-tasks": SimulatedAppliance.forget_tasks,
    "cut-connections": SimulatedAppliance.cut_connections,
}
_LEVERS: dict[str, frozenset[str]] = {
    "rotate-certificate": frozenset({"which"}),
    "down": frozenset({"mode", "ms", "peersToo"}),
    "up": frozenset(),
    "clock": frozenset({"offsetMs"}),
    **{lever: frozenset() for lever in _SIMPLE_LEVERS},
}
"""Every lever and the fields it takes."""


class _BadInput(Exception):
    """What the caller did wrong."""


class _Unknown(Exception):
    """What there is none of. Not aiohttp's, whose reasons take but one line."""


async def serve(stack: AsyncExitStack, fleet: "Fleet", port: int) -> str:
    """Serve until the stack unwinds; returns the URL."""
    app = web.Application(middlewares=[_explained])
    app.add_routes(_Control(fleet).routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


def truth_json(
    fleet: "Fleet",
    appliance: str | None = None,
    operation_id: str | None = None,
    kind: str | None = None,
) -> dict[str, Any]:
    """The ground truth, as it is now: tasks that are over have taken effect."""
    fleet.world.settle(fleet.now())
    truth = fleet.world.truth
    states = [a.state for a in fleet.appliances if appliance in {None, a.name}]
    return {
        "accepted": [entry_json(entry) for entry in truth.of(appliance, operation_id, kind)],
        "appliances": {
            state.name: {
                **truth.counts(state.name).as_json(),
                "sessions": len(state.sessions),
                "tasks": len(state.tasks),
                "peers": [
                    {
                        "id": peer.id,
                        "site": peer.site,
                        "url": peer.url,
                        "thumbprint": peer.thumbprint,
                    }
                    for peer in state.peers.values()
                ],
            }
            for state in states
        },
    }


@web.middleware
async def _explained(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (_BadInput, BadFault, BadKnob) as fault:
        return _json({"error": str(fault)}, 400)
    except _Unknown as fault:
        return _json({"error": str(fault)}, 404)
    except web.HTTPException as fault:
        return _json({"error": fault.reason}, fault.status)


class _Control:
    """The handlers, over one fleet."""

    def __init__(self, fleet: "Fleet") -> None:
        self._fleet = fleet

    def routes(self) -> list[web.RouteDef]:
        one = "/appliances/{name}"
        return [
            web.get("/appliances", self.appliances),
            web.get("/truth", self.truth),
            web.delete("/truth", self.forget_truth),
            web.get("/log", self.log),
            web.get("/ca.pem", self.ca),
            web.patch("/knobs", self.turn_all),
            web.post("/faults", self.arm_all),
            web.delete("/faults", self.disarm_all),
            web.get(one, self.appliance),
            web.get(one + "/knobs", self.knobs),
            web.patch(one + "/knobs", self.turn),
            web.get(one + "/faults", self.faults),
            web.post(one + "/faults", self.arm),
            web.delete(one + "/faults", self.disarm),
            web.delete(one + "/faults/{id}", self.disarm_one),
            web.post(one + "/{lever}", self.pull),
        ]

    async def appliances(self, _request: web.Request) -> web.Response:
        return _json([appliance.as_json() for appliance in self._fleet.appliances])

    async def appliance(self, request: web.Request) -> web.Response:
        return _json(self._one(request).as_json())

    async def truth(self, request: web.Request) -> web.Response:
        query = request.query
        known = {"appliance", "operationID", "kind"}
        if unknown := set(query) - known:
            raise _BadInput(f"no parameter {', '.join(sorted(unknown))}; there are {sorted(known)}")
        name, operation_id, kind = (query.get(k) for k in ("appliance", "operationID", "kind"))
        if name is not None:
            self._named(name)
        if kind not in {None, *get_args(Kind)}:
            raise _BadInput(f"kind takes one of {', '.join(get_args(Kind))}, not {kind!r}")
        return _json(truth_json(self._fleet, name, operation_id, kind))

    async def forget_truth(self, _request: web.Request) -> web.Response:
        self._fleet.world.truth.reset()
        return web.Response(status=204)

    async def log(self, _request: web.Request) -> web.Response:
        return _json([call_json(call) for call in self._fleet.world.truth.log])

    async def ca(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._fleet.ca_pem)

    async def knobs(self, request: web.Request) -> web.Response:
        return _json(self._one(request).state.knobs)

    async def turn(self, request: web.Request) -> web.Response:
        appliance = self._one(request)
        appliance.turn(**await _object(request))
        return _json(appliance.state.knobs)

    async def turn_all(self, request: web.Request) -> web.Response:
        changes = await _object(request)
        for appliance in self._fleet.appliances:
            appliance.turn(**changes)
        return web.Response(status=204)

    async def faults(self, request: web.Request) -> web.Response:
        return _json(self._one(request).state.faults.as_json())

    async def arm(self, request: web.Request) -> web.Response:
        appliance = self._one(request)
        return _json({"id": appliance.add_fault(parse_rule(await _object(request)))}, 201)

    async def arm_all(self, request: web.Request) -> web.Response:
        rule = parse_rule(await _object(request))
        return _json({a.name: a.add_fault(rule) for a in self._fleet.appliances}, 201)

    async def disarm(self, request: web.Request) -> web.Response:
        self._one(request).clear_faults()
        return web.Response(status=204)

    async def disarm_all(self, _request: web.Request) -> web.Response:
        for appliance in self._fleet.appliances:
            appliance.clear_faults()
        return web.Response(status=204)

    async def disarm_one(self, request: web.Request) -> web.Response:
        rule_id = request.match_info["id"]
        if not self._one(request).state.faults.remove(rule_id):
            raise _Unknown(f"no fault {rule_id}")
        return web.Response(status=204)

    async def pull(self, request: web.Request) -> web.Response:
        """The levers: what an operator, a disk or a power cut does to an appliance."""
        appliance, lever = self._one(request), request.match_info["lever"]
        if lever not in _LEVERS:
            raise _Unknown(f"no lever {lever}; there are {', '.join(_LEVERS)}")
        raw = await _object(request)
        if unknown := set(raw) - _LEVERS[lever]:
            raise _BadInput(f"no field {', '.join(sorted(unknown))} in {lever}")
        match lever:
            case "rotate-certificate":
                appliance.rotate_certificate(_field(raw, "which", get_args(Which), "both"))
            case "down":
                await _take_down(appliance, raw)
            case "up":
                await appliance.up()
            case "clock":
                appliance.skew_clock(_whole(raw, "offsetMs", -MOST))
            case _:
                _SIMPLE_LEVERS[lever](appliance)
        return _json(appliance.as_json())

    def _one(self, request: web.Request) -> SimulatedAppliance:
        return self._named(request.match_info["name"])

    def _named(self, name: str) -> SimulatedAppliance:
        try:
            return self._fleet[name]
        except KeyError:
            names = ", ".join(appliance.name for appliance in self._fleet.appliances)
            raise _Unknown(f"no appliance {name}; there are {names}") from None


async def _take_down(appliance: SimulatedAppliance, raw: dict[str, Any]) -> None:
    mode: Mode = _field(raw, "mode", get_args(Mode), "refuse")
    ms = _whole(raw, "ms", 0) if "ms" in raw else 0
    peers_too = _field(raw, "peersToo", (False, True), default=False)
    await appliance.down(mode, ms, peers_too=peers_too)


async def _object(request: web.Request) -> dict[str, Any]:
    body = await request.read()
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as fault:
        raise _BadInput(f"the body is no JSON object: {fault}") from fault


def _field(raw: dict[str, Any], name: str, choices: tuple[T, ...], default: T) -> T:
    """A field of the body: one of `choices`."""
    value = raw.get(name, default)
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return choice
    raise _BadInput(f"{name} takes one of {', '.join(map(str, choices))}, not {value!r}")


def _whole(raw: dict[str, Any], name: str, least: int) -> int:
    value = raw.get(name)
    if type(value) is not int or not least <= value <= MOST:
        raise _BadInput(f"{name} takes a whole number of ms from {least} to {MOST}, not {value!r}")
    return value


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/json"
    )
