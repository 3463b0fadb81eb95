"""The bare calls: asyncio and aiohttp, nothing kept, bulk polls. What cannot be beaten.

One login an appliance, both sides at once, one poll loop an appliance, one look at each list of
peers when tasks are over. No record, no retry, no second look: if anything fails, it raises.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bench.couples import Places
from bench.rounds import Round

_POLL_S = 0.1
_VERIFY_S = 60.0
_CONNECTIONS = 2


class _Site:
    """One appliance: a session, a poll loop, and whoever waits for its tasks."""

    def __init__(self, described: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self.described = described
        self.calls = 0
        self._session = session
        self._pin = aiohttp.Fingerprint(
            bytes.fromhex(described["thumbprint"].removeprefix("SHA-256:").replace(":", ""))
        )
        self._token = ""
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._asked = asyncio.Event()
        self._look: asyncio.Task[Any] | None = None

    async def call(self, method: str, path: str, body: object = None) -> Any:
        self.calls += 1
        headers = {"X-VCAV-Auth": self._token} if self._token else {}
        async with self._session.request(
            method,
            self.described["managementUrl"] + path,
            json=body,
            headers=headers,
            ssl=self._pin,
        ) as response:
            response.raise_for_status()
            self._token = response.headers.get("X-VCAV-Auth", self._token)
            return await response.json(content_type=None)

    async def pair(self, peer: "_Site") -> None:
        task = await self.call(
            "POST",
            "/sites",
            {
                "apiUrl": peer.described["apiUrl"],
                "apiThumbprint": peer.described["apiThumbprint"],
                "description": "",
            },
        )
        over = self._waiting[task["id"]] = asyncio.get_running_loop().create_future()
        self._asked.set()
        await over

    async def poll(self) -> None:
        while True:
            await self._asked.wait()
            await asyncio.sleep(_POLL_S)
            table = await self.call("POST", "/tasks/poll", list(self._waiting))
            names = table["propertyNames"]
            key, state = names.index("id"), names.index("state")
            for row in table["values"]:
                if row[state] == "FAILED":
                    raise RuntimeError("a task failed")
                if row[state] == "SUCCEEDED":
                    self._waiting.pop(row[key]).set_result(None)
            if not self._waiting:
                self._asked.clear()

    async def peers(self) -> Any:
        """Shared by all who ask within a moment."""
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(self._read_peers())
        return await asyncio.shield(self._look)

    async def _read_peers(self) -> Any:
        await asyncio.sleep(0.01)
        look, self._look = self._look, None
        del look
        return await self.call("GET", "/sites")


class Sites:
    """All appliances, logged in."""

    def __init__(self, sites: Sequence[_Site]) -> None:
        self._sites = sites

    @property
    def calls(self) -> int:
        """How many were made, logins included."""
        return sum(site.calls for site in self._sites)

    async def pair(self, couple: tuple[int, int]) -> None:
        """Both sides, verified. Raises what goes wrong."""
        one, other = (self._sites[place] for place in couple)
        async with asyncio.TaskGroup() as both:
            both.create_task(one.pair(other))
            both.create_task(other.pair(one))
        async with asyncio.timeout(_VERIFY_S):
            await _until_both_work(one, other)


async def _until_both_work(one: _Site, other: _Site) -> None:
    while True:
        if await _works(one, other) and await _works(other, one):
            return
        await asyncio.sleep(_POLL_S)


async def _works(site: _Site, peer: _Site) -> bool:
    for row in await site.peers():
        if row["apiPublicUrl"].rstrip("/") == peer.described["apiUrl"].rstrip("/"):
            state = row["state"]
            return not (state["incomingCommError"] or state["outgoingCommError"])
    return False


@asynccontextmanager
async def logged_in(appliances: Sequence[dict[str, Any]]) -> AsyncIterator[Sites]:
    """Sessions on all appliances, and their poll loops, for the time of the block."""
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=_CONNECTIONS)
    async with (
        aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session,
        asyncio.TaskGroup() as loops,
    ):
        sites = [_Site(described, session) for described in appliances]
        async with asyncio.TaskGroup() as logins:
            for site in sites:
                logins.create_task(site.call("POST", "/sessions", site.described["credentials"]))
        polls = [loops.create_task(site.poll()) for site in sites]
        yield Sites(sites)
        for poll in polls:
            poll.cancel()


async def measure(appliances: Sequence[dict[str, Any]], couples: Places, in_flight: int) -> Round:
    """Pair all `couples`, `in_flight` at once; the logins count."""
    wall, cpu = time.perf_counter(), time.process_time()
    slots = asyncio.Semaphore(in_flight)
    ended_s: list[float] = []
    async with logged_in(appliances) as sites:

        async def pair(couple: tuple[int, int]) -> None:
            async with slots:
                await sites.pair(couple)
                ended_s.append(time.perf_counter() - wall)

        async with asyncio.TaskGroup() as tasks:
            for couple in couples:
                tasks.create_task(pair(couple))
        return Round(ended_s, time.process_time() - cpu, sites.calls)
