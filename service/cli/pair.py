"""`sitepair pair A B`, `cancel ID`, `retry ID`: ask for something and watch it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from cyclopts import Parameter

from service.cli.following import Following, followed, patiently
from service.cli.remote import Remote, answered, remote
from service.cli.status import Exit, run, tell
from service.cli.watching import is_left_behind

_FOLLOW = Following()
_LOOKS_FIRST = (
    "The rollback is resumed. It may look for SITEPAIR_VERIFY_TIMEOUT (60 s by default) first."
)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted of two appliances."""

    operation: Literal["pair", "repair", "unpair"] = "pair"
    """pair; repair, after a new certificate or URL was registered; unpair."""

    on_failure: Literal["rollback", "keep"] = "rollback"
    """If it does not succeed: rollback undoes what was done, keep leaves it."""

    description: str = ""
    """Free text, also sent to the appliances."""

    timeout: int | None = None
    """Seconds for the whole pairing; the default of the service is 900."""

    def body(self, one: str, other: str) -> dict[str, object]:
        """The request."""
        asked: dict[str, object] = {
            "appliances": [one, other],
            "operation": self.operation,
            "onFailure": self.on_failure,
            "description": self.description,
        }
        return asked if self.timeout is None else asked | {"timeoutSeconds": self.timeout}


_PAIR = Wish()


def pair(one: str, other: str, *, wish: Wish = _PAIR, following: Following = _FOLLOW) -> int:
    """Pair, repair or unpair two appliances and wait for the end.

    Exit status: 0 it succeeded, 1 it did not, 2 refused, 3 no usable answer: it may have been
    accepted, 130 Ctrl-C: the command stops watching, the pairing goes on.

    Parameters
    ----------
    one
        The name of one appliance.
    other
        The name of the other appliance.
    """
    return run(answered(_pair(wish.body(one, other), following)))


def cancel(pairing: UUID, *, following: Following = _FOLLOW) -> int:
    """Cancel a pairing: no new step begins, what it did is rolled back.

    Exit status: 0 it is canceled, 1 it ended otherwise or could not be rolled back completely, 2
    refused, 3 no usable answer.

    Parameters
    ----------
    pairing
        The id of the pairing.
    """
    return run(answered(_cancel(f"/v1/pairings/{pairing}/cancel", following)))


def retry(pairing: UUID, *, following: Following = _FOLLOW) -> int:
    """Retry a pairing that failed or was canceled.

    If its rollback could not be completed, only the rollback is resumed; it may look at the
    appliance for SITEPAIR_VERIFY_TIMEOUT before it acts. Exit status: 0 it
    succeeded, or the rollback is complete now; 1 it did not; 2 refused; 3 no usable answer.

    Parameters
    ----------
    pairing
        The id of the pairing.
    """
    return run(answered(_retry(f"/v1/pairings/{pairing}/retry", following)))


async def _pair(body: object, how: Following) -> Exit:
    # Of our own, so that asking again after a lost answer starts nothing twice.
    key = secrets.token_hex(16)
    async with remote() as service:
        pairing = await patiently(service.call, "POST", "/v1/pairings", body, Idempotency_Key=key)
        return await _end(service, pairing, how, _succeeded)


async def _cancel(path: str, how: Following) -> Exit:
    async with remote() as service:
        pairing = await patiently(service.call, "POST", path)
        return await _end(service, pairing, how, _canceled)


async def _retry(path: str, how: Following) -> Exit:
    async with remote() as service:
        pairing = await service.call("POST", path)
        is_well = _undone if is_left_behind(pairing) else _succeeded
        if is_left_behind(pairing):
            tell(_LOOKS_FIRST)
        return await _end(service, pairing, how, is_well)


async def _end(
    service: Remote, pairing: Any, how: Following, is_well: Callable[[Any], bool]
) -> Exit:
    pairing = await followed(service, pairing, how)
    return Exit.OK if not how.wait or is_well(pairing) else Exit.FAILED


def _succeeded(pairing: Any) -> bool:
    return bool(pairing["state"] == "SUCCEEDED")


def _canceled(pairing: Any) -> bool:
    return pairing["state"] == "CANCELED" and not is_left_behind(pairing)


def _undone(pairing: Any) -> bool:
    return not is_left_behind(pairing)
