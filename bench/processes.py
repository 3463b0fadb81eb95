"""The processes under measurement, each started fresh for a round."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

_START_S = 120.0
_STOP_S = 30.0


@asynccontextmanager
async def simulator(appliances: int, seed: int) -> AsyncIterator[dict[str, Any]]:
    """A fleet of simulated appliances in a process of its own, as it describes itself."""
    arguments = ["-m", "simulator", "--appliances", str(appliances), "--seed", str(seed)]
    async with _process(arguments) as (_, description):
        yield description


@asynccontextmanager
async def service(data_dir: Path, window: int) -> AsyncIterator[tuple[psutil.Process, Any]]:
    """The service in a process of its own: that process, and `{url, token}`."""
    arguments = ["-m", "bench.served", str(data_dir), str(window)]
    async with _process(arguments) as (pid, description):
        yield psutil.Process(pid), description


@asynccontextmanager
async def _process(arguments: list[str]) -> AsyncIterator[tuple[int, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        limit=2**22,
        env={name: value for name, value in os.environ.items() if "SITEPAIR" not in name},
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the process has no output")
        async with asyncio.timeout(_START_S):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(arguments)} did not start")
        yield process.pid, json.loads(line)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds that the process has used so far."""
    times = process.cpu_times()
    return times.user + times.system


def postgres_cpu_s() -> float:
    """CPU seconds that all PostgreSQL processes of this machine have used, ended ones included as
    far as their parent is one of them."""
    total = 0.0
    for process in psutil.process_iter(["name", "cpu_times"]):
        if process.info["name"] == "postgres" and process.info["cpu_times"] is not None:
            times = process.info["cpu_times"]
            total += times.user + times.system
    return total
