"""Who may log in where. Shared by all workers, and outlives them: an account that is refused too
often gets locked (h4-api 1)."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError

from service.domain.appliance import ApiError
from service.domain.errors import StoreUnavailable, UnknownAppliance
from service.domain.ids import ApplianceName, WorkerId
from service.domain.registration import LoginEnd, LoginOutcome, LoginRefusal, Registration
from service.store.database import Database, Parameters
from service.store.errors import RolledBack
from service.store.group import GroupCommit
from service.store.rows import error_from, error_to_json
from service.store.statements import statement
from service.store.vault import Sealed

TURN_LASTS_S = 45.0
"""A turn that was not given back by then is over, though its worker lives. Longer than a login may
take."""

_ASK_AGAIN_S = (0.1, 1.0)
_TELL_AGAIN_S = (0.05, 0.2)
_HELD_S = 2.0
"""For so long somebody else may hold what is to be noted."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A turn that somebody wants."""

    appliance: UUID
    turn: UUID
    owner: WorkerId | None
    version: int


@dataclass(frozen=True, slots=True)
class _Told:
    """How a login ended; `contact` is None if nothing is known of that."""

    appliance: UUID
    turn: UUID | None
    version: int
    refusal: LoginRefusal | None
    contact: int | None


_Answer = Mapping[str, Any] | None
"""None: nothing was done, ask again."""


class LoginGates:
    """The gates of all appliances. Who begins logs in everywhere at once: what is asked and told
    at one moment shares a statement."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], int],
        owner: Callable[[], WorkerId | None] = lambda: None,
    ) -> None:
        """`clock` gives the time in ms, `owner` the worker on whose behalf logins are made."""
        self._database = database
        self._clock = clock
        self._owner = owner
        self._group: GroupCommit[_Asked | _Told, _Answer] = GroupCommit(self._commit)

    def of(self, registration: Registration) -> "LoginGate":
        """The gate before the logins with the credentials of `registration`."""
        return LoginGate(self._group.submit, self._clock, self._owner, registration)

    async def run(self) -> None:
        """Serve all gates until cancelled: whoever waits at one then gets StoreUnavailable. Turns
        that could not be given back end by themselves."""
        await self._group.run()

    async def _commit(self, items: Sequence[_Asked | _Told]) -> Sequence[_Answer]:
        answers: dict[int, _Answer] = {}
        left = dict(enumerate(items))
        while left:
            # One of each appliance at a time: whoever comes next sees what became of that.
            first = {item.appliance: place for place, item in reversed(left.items())}
            lot = {place: left.pop(place) for place in first.values()}
            asked = [each for each in lot.values() if isinstance(each, _Asked)]
            told = [each for each in lot.values() if isinstance(each, _Told)]
            found = await self._run("end_logins", _of_told(told)) if told else {}
            if asked:
                found |= await self._run("take_logins", _of_asked(asked))
            answers |= {place: found.get(each.appliance) for place, each in lot.items()}
        return [answers[place] for place in range(len(items))]

    async def _run(self, name: str, parameters: Parameters) -> dict[UUID, Mapping[str, Any]]:
        """What is told of each appliance; of none, if nothing was done."""
        try:
            rows = await self._database.run(statement(name), parameters)
        except (RolledBack, IntegrityError):
            # Undone to help somebody else, or because one was removed just then. All come again:
            # what this group has done before must not be done twice, for others may have noted
            # something since.
            return {}
        return {row.appliance: row._asdict() for row in rows}


class LoginGate:
    """Implements `appliance.gate.LoginGate`: one login at a time on an appliance, whoever makes it,
    and none with credentials that were refused."""

    def __init__(
        self,
        submit: Callable[[_Asked | _Told], Awaitable[_Answer]],
        clock: Callable[[], int],
        owner: Callable[[], WorkerId | None],
        registration: Registration,
    ) -> None:
        self._submit = submit
        self._clock = clock
        self._owner = owner
        self._name = registration.spec.name
        self._is_sealed = registration.is_sealed
        self._appliance: UUID = registration.id
        self._version = registration.credentials_version
        self._turn: UUID | None = None

    async def admit(self) -> LoginRefusal | None:
        """Wait for the turn to log in. A refusal: these credentials, or newer ones, were refused
        before, or no key of ours opens them.

        Raises UnknownAppliance, StoreUnavailable.
        """
        if self._is_sealed:
            return _refusal_of_sealed(self._name)
        # Noted before asking: who is cancelled meanwhile may have got it all the same.
        self._turn = turn = uuid4()
        while True:
            answer = await self._submit(_Asked(self._appliance, turn, self._owner(), self._version))
            if answer is not None:
                if not answer["is_known"]:
                    raise UnknownAppliance(self._name)
                if answer["is_taken"]:
                    return None
                if answer["refused_error"] is not None:
                    refused = error_from(answer["refused_error"])
                    return LoginRefusal(refused, answer["refused_status"])
            await asyncio.sleep(random.uniform(*_ASK_AGAIN_S))  # noqa: S311 - only to spread them

    async def tell(self, outcome: LoginOutcome) -> None:
        """How the login ended, or one that needed no turn. Raises StoreUnavailable."""
        turn, self._turn = self._turn, None
        refusal = outcome if isinstance(outcome, LoginRefusal) else None
        contact = self._clock() if outcome is not LoginEnd.UNKNOWN else None
        told = _Told(self._appliance, turn, self._version, refusal, contact)
        clock = asyncio.get_running_loop().time
        until = clock() + _HELD_S
        while not _is_noted(await self._submit(told)):
            if clock() >= until:
                raise StoreUnavailable(f"somebody holds what is known of '{self._name}'")
            await asyncio.sleep(random.uniform(*_TELL_AGAIN_S))  # noqa: S311 - as above


def _is_noted(answer: _Answer) -> bool:
    """Of an appliance that is not registered any more nothing is to be noted."""
    return answer is not None and (answer["is_written"] or not answer["is_known"])


def _of_asked(asked: Sequence[_Asked]) -> Mapping[str, object]:
    return {
        "appliances": [each.appliance for each in asked],
        "turns": [each.turn for each in asked],
        "owners": [each.owner for each in asked],
        "versions": [each.version for each in asked],
        "lasts_s": TURN_LASTS_S,
    }


def _of_told(told: Sequence[_Told]) -> Mapping[str, object]:
    refusals = [each.refusal for each in told]
    return {
        "appliances": [each.appliance for each in told],
        "turns": [each.turn for each in told],
        "versions": [each.version for each in told],
        "statuses": [each.status if each is not None else None for each in refusals],
        "errors": [error_to_json(each.error if each is not None else None) for each in refusals],
        "contacts": [each.contact for each in told],
    }


def _refusal_of_sealed(name: ApplianceName) -> LoginRefusal:
    """Told to nobody else: others may have the key."""
    return LoginRefusal(ApiError("CredentialsSealed", str(Sealed(repr(name))), (name,)), 401)
