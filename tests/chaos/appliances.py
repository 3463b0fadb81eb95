"""The simulator in a process of its own: its levers, its truth, and a hand on its appliances."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.chaos.processes import LOOK_S, spawned

Json = dict[str, Any]
Couple = tuple[str, str]

_TIMEOUT = aiohttp.ClientTimeout(total=20)


class Appliances:
    """The fleet of one run, by name."""

    def __init__(self, described: Mapping[str, Any], session: aiohttp.ClientSession) -> None:
        self.described: dict[str, Json] = {each["name"]: each for each in described["appliances"]}
        self._control = str(described["controlUrl"])
        self._session = session

    @property
    def names(self) -> list[str]:
        """All of them, in order."""
        return list(self.described)

    async def turn(self, knobs: Mapping[str, object], name: str | None = None) -> None:
        """Turn knobs of one appliance, or of all."""
        path = f"/appliances/{name}/knobs" if name else "/knobs"
        await self._pull("PATCH", path, knobs)

    async def arm(self, name: str, rule: Mapping[str, object]) -> None:
        """Arm a fault on one appliance."""
        await self._pull("POST", f"/appliances/{name}/faults", rule)

    async def disarm(self) -> None:
        """No faults any more, anywhere."""
        await self._pull("DELETE", "/faults")

    async def lever(self, name: str, lever: str, **fields: object) -> None:
        """Pull a lever of one appliance."""
        await self._pull("POST", f"/appliances/{name}/{lever}", fields)

    async def forget_truth(self) -> None:
        """Count from zero."""
        await self._pull("DELETE", "/truth")

    async def truth(self) -> Json:
        """What the appliances really did."""
        truth: Json = await self._pull("GET", "/truth")
        return truth

    async def log(self) -> list[Json]:
        """The latest calls, with the status that was answered, if any was."""
        log: list[Json] = await self._pull("GET", "/log")
        return log

    async def pair_by_hand(self, one: str, other: str) -> None:
        """Pair two appliances by their own API, and return when they are."""
        for name, peer in ((one, other), (other, one)):
            async with self._logged_in(name) as call:
                task = await call("POST", "/sites", self._as_peer(peer))
                while task["state"] not in {"SUCCEEDED", "FAILED"}:
                    await asyncio.sleep(LOOK_S)
                    task = await call("GET", f"/tasks/{task['id']}")
                if task["state"] == "FAILED":
                    raise RuntimeError(f"{name} and {peer} can not be paired by hand: {task}")

    async def peers(self, name: str) -> list[Json]:
        """What GET /sites of the appliance says, asked by hand."""
        async with self._logged_in(name) as call:
            listed: list[Json] = await call("GET", "/sites")
            return [row for row in listed if not row["isLocal"]]

    def _as_peer(self, name: str) -> Json:
        peer = self.described[name]
        return {
            "apiUrl": peer["apiUrl"],
            "apiThumbprint": peer["apiThumbprint"],
            "description": "paired by hand",
        }

    @asynccontextmanager
    async def _logged_in(self, name: str) -> AsyncIterator[Any]:
        appliance = self.described[name]
        digest = appliance["thumbprint"].removeprefix("SHA-256:").replace(":", "")
        pin = aiohttp.Fingerprint(bytes.fromhex(digest))
        headers: dict[str, str] = {}

        async def call(method: str, path: str, body: object = None) -> Any:
            url = appliance["managementUrl"] + path
            async with self._session.request(
                method, url, json=body, headers=headers, ssl=pin
            ) as response:
                response.raise_for_status()
                headers["X-VCAV-Auth"] = response.headers.get(
                    "X-VCAV-Auth", headers.get("X-VCAV-Auth", "")
                )
                return await response.json(content_type=None) if response.status != 204 else None

        await call("POST", "/sessions", appliance["credentials"])
        yield call
        await call("DELETE", "/sessions")

    async def _pull(self, method: str, path: str, body: object = None) -> Any:
        async with self._session.request(method, self._control + path, json=body) as response:
            if response.status >= 400:
                raise RuntimeError(f"{method} {path} {body}: {await response.text()}")
            return await response.json(content_type=None) if response.status != 204 else None


@asynccontextmanager
async def simulated(count: int, seed: int, logs: Path, *knobs: str) -> AsyncIterator[Appliances]:
    """A fleet in a process of its own; each of `knobs` is NAME=VALUE."""
    arguments = ["-m", "simulator", "--appliances", str(count), "--seed", str(seed)]
    for knob in knobs:
        arguments += ["--knob", knob]
    async with spawned("simulator", arguments, {}, logs / "simulator.log") as process:
        described = await process.ready(lambda line: "controlUrl" in line)
        # A kept connection that the other end closes meanwhile is one more thing to go wrong.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
            yield Appliances(described, session)
