"""Real processes, each a group of its own with a log in a file; all are ended in the end."""

import asyncio
import atexit
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOOK_S = 0.05
"""How often something is looked at that announces itself in no other way."""

START_S = 60.0
STOP_S = 30.0
_BACK_OFF_S = 0.5
_alive: set[int] = set()


class DidNotStart(Exception):
    """A process ended, or said nothing, before it was ready."""


class Process:
    """One process. `is_meant_to_end` is set by whoever ends it, so that nobody wonders."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self.began = time.monotonic()
        self.is_meant_to_end = False
        self._process = process
        self._announced: dict[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Its exit status, negative for a signal, once it has ended."""
        return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its whole group, if it is still there."""
        if not self.is_over:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Each line of JSON that it has written so far."""
        with self.log.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("{") and line.endswith("}\n"):
                    yield json.loads(line)

    def announced(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """The first line by which it says that it is ready, once it has."""
        if self._announced is None:
            self._announced = next(filter(is_it, self.lines()), None)
        return self._announced

    async def ready(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The line by which it says that it is ready. Raises DidNotStart."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while not self.is_over:
                    if (line := self.announced(is_it)) is not None:
                        return line
                    await asyncio.sleep(LOOK_S)
        raise DidNotStart(f"{self.name} is not ready; its log is {self.log}")


@asynccontextmanager
async def spawned(
    name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> AsyncIterator[Process]:
    """`python ARGUMENTS` from the checkout, killed with its whole group at the end of the block."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SITEPAIR_")}
    with log.open("ab") as file:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            env={**kept, **environment},
            cwd=ROOT,
            start_new_session=True,
        )
    _alive.add(child.pid)
    process = Process(name, child, log)
    try:
        yield process
    finally:
        process.is_meant_to_end = True
        process.signal(signal.SIGKILL)
        await process.wait()
        _alive.discard(child.pid)


async def run_once(
    name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> None:
    """Run it to its end. Raises DidNotStart unless that is a good one."""
    async with spawned(name, arguments, environment, log) as process, asyncio.timeout(START_S):
        if (status := await process.wait()) != 0:
            raise DidNotStart(f"{name} ended with status {status}; its log is {log}")


_DEFECTS = frozenset({"pairing_crashed", "request_crashed", "upkeep_crashed"})


def is_service_ready(line: Mapping[str, Any]) -> bool:
    """Whether this line of the service's log says that the process is ready."""
    return line.get("event") == "service_started"


class Slot:
    """A place for one process of the service: whatever ends it, another one is started, as the
    supervisor of a deployment does. `faults` tells of ends that nobody meant."""

    def __init__(
        self,
        name: str,
        role: str,
        environment: Mapping[str, str],
        logs: Path,
        was_database_down: Callable[[float], bool],
    ) -> None:
        """`role` is the option of `serve`; `was_database_down` since an instant of the monotonic
        clock is the one excuse for a process that does not even start."""
        self.name = name
        self.process: Process | None = None
        self.past: list[Process] = []
        self.faults: list[str] = []
        self._role = role
        self._environment = environment
        self._logs = logs
        self._was_database_down = was_database_down
        self._back_s = 0.0
        self._wanted_back = asyncio.Event()
        self._is_dismissed = False

    async def run(self) -> None:
        """Keep a process running until `dismiss` is called."""
        while not self._is_dismissed:
            log = self._logs / f"{self.name}.{len(self.past) + 1}.log"
            arguments = ["-m", "service", "serve", self._role]
            async with spawned(self.name, arguments, self._environment, log) as process:
                self.process = process
                self.past.append(process)
                try:
                    self._judge(process, await process.wait())
                finally:
                    self.process = None
            await self._until_wanted_back()

    @property
    def url(self) -> str | None:
        """Where the process that runs now serves its API, once it does."""
        process = self.process
        started = process.announced(is_service_ready) if process is not None else None
        return str(started["listen"]) if started is not None else None

    async def ready(self) -> None:
        """Return when the process that runs is ready. Raises DidNotStart."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while True:
                    process = self.process
                    if process is not None and process.announced(is_service_ready) is not None:
                        return
                    await asyncio.sleep(LOOK_S)
        raise DidNotStart(f"{self.name} does not become ready; its logs are in {self._logs}")

    def end(self, number: signal.Signals, back_s: float) -> Process | None:
        """End the process by a signal; the next one starts `back_s` after its end. Which one it
        was, None if there was none."""
        process = self.process
        if process is not None:
            self._back_s = back_s
            self._wanted_back.clear()
            process.is_meant_to_end = True
            process.signal(number)
            process.signal(signal.SIGCONT)
        return process

    def call_back(self) -> None:
        """Start the next one at once, if none runs."""
        self._wanted_back.set()

    async def dismiss(self) -> None:
        """Ask the process to end in good order, for good; say so in `faults` if it does not."""
        self._is_dismissed = True
        self._wanted_back.set()
        process = self.end(signal.SIGTERM, 0)
        if process is None:
            return
        try:
            async with asyncio.timeout(STOP_S):
                if (status := await process.wait()) != 0:
                    self.faults.append(f"{self.name} ended with status {status} on SIGTERM")
        except TimeoutError:
            self.faults.append(f"{self.name} had not ended {STOP_S:.0f} s after SIGTERM")
            process.signal(signal.SIGKILL)

    def defects(self) -> Iterator[str]:
        """What its processes have logged that no trouble of the world excuses."""
        for process in self.past:
            for line in process.lines():
                if line.get("event") in _DEFECTS:
                    what = line.get("pairing") or line.get("route")
                    yield f"{line['event']} {what}: the traceback is in {process.log}"

    async def _until_wanted_back(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._back_s):
                await self._wanted_back.wait()
        self._back_s = _BACK_OFF_S

    def _judge(self, process: Process, status: int) -> None:
        if process.is_meant_to_end:
            return
        was_ready = process.announced(is_service_ready) is not None
        if was_ready or not self._was_database_down(process.began):
            doing = "running" if was_ready else "starting"
            self.faults.append(
                f"{self.name} ended by itself while {doing}, with status {status}: {process.log}"
            )


@atexit.register
def _kill_what_is_left() -> None:
    """For ends that no `finally` sees."""
    for pid in _alive:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
