"""The calls of one pairing as a script makes them: look, ask both, poll each task, verify both."""

import asyncio
from typing import Any

import aiohttp

POLL_S = 0.1
VERIFY_S = 60.0
_CONNECTIONS = 2


class Appliance:
    """One appliance: logged in with the first call, two connections, which are kept."""

    def __init__(self, described: dict[str, Any]) -> None:
        self.described = described
        self._pin = aiohttp.Fingerprint(
            bytes.fromhex(described["thumbprint"].removeprefix("SHA-256:").replace(":", ""))
        )
        self._session: aiohttp.ClientSession | None = None
        self._token: asyncio.Task[str] | None = None

    async def lists(self, peer: "Appliance") -> bool:
        """Whether it lists `peer`, with nothing wrong in either direction."""
        for row in await self._call("GET", "/sites"):
            if row["apiPublicUrl"].rstrip("/") == peer.described["apiUrl"].rstrip("/"):
                return not any(row["state"].values())
        return False

    async def request(self, peer: "Appliance") -> str:
        """Ask it to pair with `peer`; the id of its task."""
        body = {
            "apiUrl": peer.described["apiUrl"],
            "apiThumbprint": peer.described["apiThumbprint"],
            "description": "",
        }
        return str((await self._call("POST", "/sites", body))["id"])

    async def finished(self, task_id: str) -> None:
        """Return when the task has succeeded. Raises RuntimeError when it failed."""
        while True:
            await asyncio.sleep(POLL_S)
            state = (await self._call("GET", f"/tasks/{task_id}"))["state"]
            if state == "SUCCEEDED":
                return
            if state == "FAILED":
                raise RuntimeError(f"task {task_id} failed")

    async def close(self) -> None:
        """Drop the connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        if self._token is None:
            credentials = self.described["credentials"]
            self._token = asyncio.ensure_future(self._log_in(credentials))
        headers = {"X-VCAV-Auth": await asyncio.shield(self._token)}
        async with self._request(method, path, body, headers) as response:
            return await response.json(content_type=None)

    async def _log_in(self, credentials: object) -> str:
        async with self._request("POST", "/sessions", credentials, {}) as response:
            return str(response.headers["X-VCAV-Auth"])

    def _request(self, method: str, path: str, body: object, headers: dict[str, str]) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                self.described["managementUrl"],
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=self._pin),
                cookie_jar=aiohttp.DummyCookieJar(),
                raise_for_status=True,
            )
        return self._session.request(method, path, json=body, headers=headers)


async def paired(one: Appliance, other: Appliance) -> None:
    """Both sides paired and verified, whatever was done before. For libraries that run it again
    as a whole after a crash."""
    async with asyncio.TaskGroup() as sides:
        sides.create_task(_side(one, other))
        sides.create_task(_side(other, one))
    await verified(one, other)


async def verified(one: Appliance, other: Appliance) -> None:
    """Return when both list each other. Raises TimeoutError."""
    async with asyncio.timeout(VERIFY_S):
        while True:
            if all(await asyncio.gather(one.lists(other), other.lists(one))):
                return
            await asyncio.sleep(POLL_S)


async def _side(appliance: Appliance, peer: Appliance) -> None:
    if not await appliance.lists(peer):
        await appliance.finished(await appliance.request(peer))
