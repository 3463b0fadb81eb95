"""A machine that was suspended: the database's clock went on, and so has ours."""

import asyncio
import time

import pytest

from service.cli.status import Exit, run
from service.domain.errors import LeaseTooShort
from service.engine.lease import Lease
from service.engine.policy import Policy

POLICY = Policy()


class Row:
    """A row that is beaten."""

    async def join(self, lease_s: float) -> None:
        pass

    async def beat(self) -> int:
        return 1

    async def bury(self) -> float | None:
        return None

    async def leave(self) -> None:
        pass


@pytest.fixture
def slept_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long the machine was suspended so far: what the system's clocks tell of it."""
    slept, clock = [0.0], time.clock_gettime

    def clock_gettime(which: int) -> float:
        return clock(which) + (slept[0] if which == time.CLOCK_BOOTTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)
    return slept


def test_what_a_command_runs_on_counts_what_the_machine_slept_through(
    slept_s: list[float],
) -> None:
    async def command() -> Exit:
        lease = Lease(Row(), POLICY)
        await lease.begin()
        lease.permit()
        slept_s[0] += POLICY.lease_s
        with pytest.raises(LeaseTooShort):
            lease.permit()
        return Exit.OK

    assert run(command()) is Exit.OK


def test_what_was_due_meanwhile_is_not_waited_for_again(slept_s: list[float]) -> None:
    async def command() -> Exit:
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        loop.call_later(3_600, called.set)
        slept_s[0] += 3_600
        await called.wait()
        return Exit.OK

    assert run(command()) is Exit.OK
