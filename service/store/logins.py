"""Who may log in where. Shared by all workers, and outlives them: an account that is refused too
often gets locked (h4-api 1)."""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.exc import IntegrityError

from service.domain.appliance import ApiError
from service.domain.errors import UnknownAppliance
from service.domain.ids import ApplianceName, WorkerId
from service.domain.registration import LoginEnd, LoginOutcome, LoginRefusal, Registration
from service.store.database import Database
from service.store.rows import error_to_json
from service.store.statements import statement
from service.store.vault import Sealed

TURN_LASTS_S = 45.0
"""A turn that was not given back by then is over, though its worker lives. Longer than a login may
take."""

_ASK_AGAIN_S = (0.1, 1.0)


class LoginGates:
    """The gates of all appliances."""

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

    def of(self, registration: Registration) -> "LoginGate":
        """The gate before the logins with the credentials of `registration`."""
        return LoginGate(self._database, self._clock, self._owner, registration)


class LoginGate:
    """Implements `appliance.gate.LoginGate`: one login at a time on an appliance, whoever makes it,
    and none with credentials that were refused."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], int],
        owner: Callable[[], WorkerId | None],
        registration: Registration,
    ) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner
        self._name = registration.spec.name
        self._is_sealed = registration.is_sealed
        self._appliance: UUID = registration.id
        self._version = registration.credentials_version
        self._turn: UUID | None = None

    async def admit(self) -> LoginRefusal | None:
        """Wait for the turn to log in. A refusal: these credentials were refused before, or no key
        of ours opens them.

        Raises UnknownAppliance, StoreUnavailable.
        """
        if self._is_sealed:
            return _refusal_of_sealed(self._name, self._appliance)
        # Noted before asking: who is cancelled meanwhile may have got it all the same.
        self._turn = turn = uuid4()
        while True:
            answer = await self._take(turn)
            if answer["is_taken"]:
                return None
            if answer["refused_error"] is not None:
                return LoginRefusal(_error(answer["refused_error"]), answer["refused_status"])
            await asyncio.sleep(random.uniform(*_ASK_AGAIN_S))  # noqa: S311 - only to spread them

    async def tell(self, outcome: LoginOutcome) -> None:
        """How the login ended, or one that needed no turn. Raises StoreUnavailable."""
        turn, self._turn = self._turn, None
        refusal = outcome if isinstance(outcome, LoginRefusal) else None
        await self._database.run(
            statement("end_login"),
            {
                "appliance": self._appliance,
                "turn": turn,
                "is_news": outcome is not LoginEnd.UNKNOWN,
                "refused_version": self._version if refusal is not None else None,
                "status": refusal.status if refusal is not None else None,
                "error": error_to_json(refusal.error) if refusal is not None else None,
                "contact": self._clock() if outcome is not LoginEnd.UNKNOWN else None,
            },
        )

    async def _take(self, turn: UUID) -> Mapping[str, Any]:
        try:
            rows = await self._database.run(
                statement("take_login"),
                {
                    "appliance": self._appliance,
                    "turn": turn,
                    "lasts_s": TURN_LASTS_S,
                    "owner": self._owner(),
                    "credentials_version": self._version,
                },
            )
        except IntegrityError as error:  # It refers to no appliance any more.
            raise UnknownAppliance(self._name) from error
        return rows[0]._asdict()


def _refusal_of_sealed(name: ApplianceName, registration: UUID) -> LoginRefusal:
    """Told to nobody else: others may have the key."""
    return LoginRefusal(ApiError("CredentialsSealed", str(Sealed(registration)), (name,)), 401)


def _error(stored: Mapping[str, Any]) -> ApiError:
    return ApiError(stored["code"], stored["msg"], tuple(stored["args"]), stored.get("stacktrace"))
