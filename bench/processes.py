"""The processes under measurement, each started fresh for a round."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

_START_S = 120.0
_STOP_S = 30.0
_LINE = 2**24

Role = Literal["all", "api", "worker"]


@dataclass(frozen=True, slots=True)
class Child:
    """A process that has said with its first line of JSON that it is ready."""

    usage: psutil.Process
    described: Any
    _process: Process

    def cpu_s(self) -> float:
        """CPU seconds that it has used so far."""
        times = self.usage.cpu_times()
        return times.user + times.system

    def rss(self) -> int:
        """Bytes of memory that it holds."""
        return int(self.usage.memory_info().rss)

    async def tell(self, said: object = None) -> None:
        """A line of JSON for it; by default just the signal to go on."""
        if self._process.stdin is None:
            raise RuntimeError("the process does not listen")
        self._process.stdin.write(json.dumps(said).encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self, within_s: float) -> Any:
        """Its next line of JSON. Raises RuntimeError when it ends without one."""
        return await _heard(self._process, within_s)


@asynccontextmanager
async def simulator(appliances: int, seed: int, *knobs: str) -> AsyncIterator[dict[str, Any]]:
    """A fleet of simulated appliances in a process of its own, as it describes itself."""
    arguments = ["-m", "simulator", "--appliances", str(appliances), "--seed", str(seed)]
    for knob in knobs:
        arguments += ["--knob", knob]
    async with started(arguments) as child:
        yield child.described


@asynccontextmanager
async def service(
    data_dir: Path,
    window: int,
    database_url: str | None = None,
    role: Role = "all",
    profile: Path | None = None,
) -> AsyncIterator[Child]:
    """The service in a process of its own, described by `{url, token}`.

    A worker alone waits to be told before it begins, and says that of its metrics then.
    Without `database_url` it brings its own PostgreSQL. A `profile` is written when it ends.
    """
    arguments = ["-m", "bench.served", str(data_dir), "--window", str(window), "--role", role]
    if database_url is not None:
        arguments += ["--database-url", database_url]
    if profile is not None:
        arguments += ["--profile", str(profile)]
    async with started(arguments) as child:
        yield child


@asynccontextmanager
async def started(arguments: list[str], said: object = None) -> AsyncIterator[Child]:
    """A Python process, told `said` if that is something; ready, and ended with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        limit=_LINE,
        env={name: value for name, value in os.environ.items() if "SITEPAIR" not in name},
    )
    try:
        child = Child(psutil.Process(process.pid), {}, process)
        if said is not None:
            await child.tell(said)
        yield Child(child.usage, await _heard(process, _START_S), process)
    finally:
        await _end(process)


async def finished(arguments: list[str], within_s: float) -> Any:
    """What a Python process says, one line of JSON, once it has ended by itself."""
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE)
    try:
        async with asyncio.timeout(within_s):
            said, _ = await process.communicate()
    finally:
        await _end(process)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}")
    return json.loads(said)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _heard(process: Process, within_s: float) -> Any:
    if process.stdout is None:
        raise RuntimeError("the process has no output")
    async with asyncio.timeout(within_s):
        line = await process.stdout.readline()
    if not line:
        raise RuntimeError("a process of the bench ended early; see what it said above")
    return json.loads(line)
