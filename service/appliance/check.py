"""Preflight: looks at one appliance, step by step, and reports on each. Changes nothing."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from service.appliance.client import ApplianceClient
from service.appliance.conditions import Conditions
from service.appliance.egress import EgressPolicy
from service.appliance.examination import Examination, Step, failed
from service.appliance.gate import OwnGate
from service.appliance.limits import DEFAULT_LIMITS, DEFAULT_TIMEOUTS, CallTimeouts
from service.domain.appliance import Json
from service.domain.errors import ApplianceError
from service.domain.registration import LoginOutcome, Registration

OnLogin = Callable[[LoginOutcome], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `ok` is None when it could not be judged."""

    name: str
    ok: bool | None
    detail: str
    data: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All checks, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.ok is not False for check in self.checks)


async def check(
    registration: Registration,
    egress: EgressPolicy,
    timeouts: CallTimeouts = DEFAULT_TIMEOUTS,
    *,
    on_login: OnLogin | None = None,
    ca: ssl.SSLContext | None = None,
    timeout_s: float = 30.0,
) -> CheckReport:
    """Whether the appliance could be paired now. Never raises for its faults.

    Every check has a result, also those that were not reached: within `timeout_s`, or because
    one that they build upon failed. The login is tried even if these credentials were refused
    before, for an operator asks for it; `on_login` is told what became of it, and may raise
    StoreUnavailable.
    """
    conditions = Conditions(egress, timeouts, DEFAULT_LIMITS, ca)
    gate = _OperatorsGate(on_login) if on_login is not None else OwnGate()
    async with asyncio.TaskGroup() as group:
        client = ApplianceClient(registration, conditions, group, gate)
        try:
            examination = Examination(registration.spec, conditions, client)
            return await _run(examination.steps(), timeout_s)
        finally:
            await client.close()


class _OperatorsGate(OwnGate):
    """Asks nobody before the first login, and passes on what became of each."""

    def __init__(self, on_login: OnLogin) -> None:
        super().__init__()
        self._on_login = on_login

    async def tell(self, outcome: LoginOutcome) -> None:
        await super().tell(outcome)
        await self._on_login(outcome)


async def _run(steps: tuple[Step, ...], timeout_s: float) -> CheckReport:
    checks: list[Check] = []
    missing: str | None = None
    deadline = asyncio.get_running_loop().time() + timeout_s
    for step in steps:
        if missing is not None:
            checks.append(Check(step.name, None, missing))
            continue
        try:
            async with asyncio.timeout_at(deadline):
                done = await _attempt(step)
        except TimeoutError:
            done = Check(step.name, None, f"The time of {timeout_s:g} s ran out here.")
            missing = "Not reached in time."
        if step.is_vital and done.ok is not True and missing is None:
            missing = f"Not looked at, because '{step.name}' failed."
        checks.append(done)
    return CheckReport(tuple(checks))


async def _attempt(step: Step) -> Check:
    try:
        found = await step.look()
    except ApplianceError as trouble:
        error = trouble.error
        found = failed(error.msg, {"code": error.code, "args": list(error.args)})
    return Check(step.name, found.ok, found.detail, found.data)
