"""Who may log in where: an account that is refused too often gets locked (h4-api 1)."""

from typing import Protocol

from service.domain.registration import LoginOutcome, LoginRefusal


class LoginGate(Protocol):
    """Stands before the logins with the credentials of one registration."""

    async def admit(self) -> LoginRefusal | None:
        """Wait for the turn to log in. A refusal: these credentials were refused before, do not
        try. Raises StoreUnavailable."""

    async def tell(self, outcome: LoginOutcome) -> None:
        """What became of the login; called once after each `admit` that told of no refusal, also
        when that raised, or the login was cancelled. May be cancelled itself if it takes long.
        Raises StoreUnavailable."""


class OwnGate:
    """Remembers for as long as it lives. For who is alone, and makes one login at a time."""

    def __init__(self) -> None:
        self._refusal: LoginRefusal | None = None

    async def admit(self) -> LoginRefusal | None:
        """Implements `LoginGate.admit`."""
        return self._refusal

    async def tell(self, outcome: LoginOutcome) -> None:
        """Implements `LoginGate.tell`."""
        self._refusal = outcome if isinstance(outcome, LoginRefusal) else None
