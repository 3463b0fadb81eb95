"""Where pairings come in: a promise to a caller is durable before it is given."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

import uuid_utils.compat
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError, IntegrityError

from service.domain import chain
from service.domain.author import Author
from service.domain.backoff import backoff_s
from service.domain.errors import (
    IdempotencyKeyReused,
    PairingActive,
    StoreUnavailable,
    UnknownAppliance,
)
from service.domain.events import PairingAccepted
from service.domain.ids import ApplianceName, PairingId
from service.domain.pairing import ChainPosition, OnFailure, Operation, Pairing, Side
from service.store.database import ANSWER_TIMEOUT_S, Database
from service.store.errors import (
    UNIQUE_VIOLATION,
    Locked,
    RolledBack,
    following,
    sqlstate,
    translated,
)
from service.store.group import GroupCommit
from service.store.pairings import as_accepted
from service.store.patience import CALLERS_S, Patience
from service.store.rows import line_of, to_text
from service.store.statements import statement

LOCK_S = 0.2
"""How long a group waits for what another transaction is about to take: so long nobody else's
request is answered."""

_HASTY_LOCK_S = 0.01
_HASTE_S = 1.0
"""As long after somebody was kept waiting in vain there is a batch under way, and many may want
what it has: each of them keeps all others waiting for that short only."""

LOCKED_PATIENCE_S = 20.0
"""Who wants what a batch is about to take waits that long. The largest take a quarter of it."""

_LONGEST_PAUSE_S = 1.0
_WARM_UP_S = 2.0
_KIND = PairingAccepted.__name__
_TRIES = 5
"""How often a group may find that another process was quicker with one of its couples or keys."""


@dataclass(frozen=True, slots=True)
class PairingRequest:
    """What a caller asks for, in the order in which they named the two."""

    appliances: tuple[ApplianceName, ApplianceName]
    operation: Operation
    description: str
    timeout_s: int
    priority: int
    on_failure: OnFailure = OnFailure.ROLLBACK


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's own name for a request, and what tells the request from others. The key counts
    within the user it came from."""

    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The pairing as it was accepted; `replayed` when that was for an earlier request."""

    pairing: Pairing
    replayed: bool


def accepted_detail(request: PairingRequest, description: str, batch: str | None = None) -> str:
    """The detail of `PairingAccepted`, in canonical spelling; `description` is as it is stored."""
    one, other = request.appliances
    return (
        f'{{"appliances":[{quoted(one)},{quoted(other)}],'
        f'"batch":{"null" if batch is None else quoted(batch)},'
        f'"description":{quoted(description)},"onFailure":"{request.on_failure}",'
        f'"operation":"{request.operation}","priority":{request.priority},'
        f'"timeoutS":{request.timeout_s}}}'
    )


class Intake:
    """Accepts pairings in groups, on a connection of its own; on another one while a batch has what
    some of them want."""

    def __init__(
        self, database: Database, clock: Callable[[], int], *, patience_s: float = CALLERS_S
    ) -> None:
        """`clock` gives the time in ms. For `patience_s` after trouble began the intake looks for
        what became of a group, and asks for the rest again, before it tells the callers."""
        self._database = database
        self._lane = database.lane(LOCK_S)
        self._hasty_lane = database.lane(_HASTY_LOCK_S)
        self._hasty_until = float("-inf")
        self._clock = clock
        self._patience = Patience("accepting pairings", patience_s)
        self._group: GroupCommit[_Candidate, Acceptance] = GroupCommit(
            self._commit, self._close, warm_up=self._warm_up
        )

    async def accept(
        self, request: PairingRequest, author: Author, key: IdempotencyKey | None = None
    ) -> Acceptance:
        """Promise an end to the pairing; it is durable, and due, when this returns.

        Raises UnknownAppliance, PairingActive when another pairing of the same two is not over,
        IdempotencyKeyReused when the key came with another fingerprint before, StoreUnavailable
        when it could not be learnt whether it was accepted.
        """
        candidate = _candidate(request, author, key, self._clock())
        with translated("accepting a pairing"):
            # It is committed, or looked for, all the same: only the caller is told in time.
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await self._accepted(candidate)

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Accept until stopped."""
        await self._group.run(ready)

    async def stop(self) -> None:
        """Take nothing more, write what is there, return when `run` is through."""
        await self._group.stop()

    async def _accepted(self, candidate: "_Candidate") -> Acceptance:
        now = asyncio.get_running_loop().time
        until = now() + LOCKED_PATIENCE_S
        in_doubt = False
        for failures in itertools.count(1):
            try:
                with following(in_doubt=in_doubt):
                    return await self._group.submit(candidate)
            except Locked as locked:
                in_doubt = locked.in_doubt
                if now() >= until:
                    raise
            # A batch that is not through yet has the couple. Out here it holds up nobody.
            pause_s = backoff_s(failures, random.random(), cap_s=_LONGEST_PAUSE_S)  # noqa: S311
            await asyncio.sleep(pause_s)
        raise AssertionError("counting never ends")

    async def _warm_up(self) -> None:
        """Ask for nothing, so that the first caller waits for no connection and no plan. What is
        wrong with the database is for that one to be told."""
        with suppress(StoreUnavailable, DBAPIError, TimeoutError):
            async with asyncio.timeout(_WARM_UP_S):
                await self._tell([])

    async def _close(self) -> None:
        await self._lane.close()
        await self._hasty_lane.close()

    async def _commit(self, candidates: Sequence["_Candidate"]) -> Sequence[Acceptance | Exception]:
        return await self._patience.see_through(lambda: self._accept(candidates))

    async def _accept(self, candidates: Sequence["_Candidate"]) -> Sequence[Acceptance | Exception]:
        answers: dict[PairingId, Acceptance | Exception] = {}
        couples: set[frozenset[ApplianceName]] = set()
        keys: set[tuple[str, str]] = set()
        left = list(candidates)
        while left:
            this_round, left = _without_rivals(left, couples, keys)
            answers |= await self._ask(this_round)
            for each in this_round:
                _settle(each, answers[each.id], couples, keys)
        return [answers[candidate.id] for candidate in candidates]

    async def _ask(
        self, candidates: Sequence["_Candidate"]
    ) -> dict[PairingId, Acceptance | Exception]:
        while True:
            rows = await self._tell(candidates)
            replays = [row.kept_id for row in rows if row.kept_matches]
            first_time = await as_accepted(self._database, replays) if replays else {}
            # One that was pruned in between took its key along: asked again, the key is new.
            if first_time.keys() >= set(replays):
                break
        found = {row.id: row for row in rows}
        return {each.id: _answer(each, found[each.id], first_time) for each in candidates}

    async def _tell(self, candidates: Sequence["_Candidate"]) -> Sequence[Row[Any]]:
        # Whoever accepts at the same time takes the couples in the same order.
        parameters = _parameters(sorted(candidates, key=lambda each: sorted(each.names)))
        now = asyncio.get_running_loop().time
        lane = self._lane if now() >= self._hasty_until else self._hasty_lane
        for _ in range(_TRIES - 1):
            try:
                return await lane.run(statement("accept"), parameters)
            except Locked:
                self._hasty_until = now() + _HASTE_S
                raise
            except RolledBack:
                continue
            except IntegrityError as error:
                if sqlstate(error) != UNIQUE_VIOLATION:
                    raise
                # Somebody was quicker; what they have committed is seen now.
        return await lane.run(statement("accept"), parameters)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A request as the pairing that it becomes if nothing is against it."""

    pairing: Pairing
    detail: str
    """Of its first event, of which the pairing says all the rest."""
    key: IdempotencyKey | None

    @property
    def id(self) -> PairingId:
        return self.pairing.id

    @property
    def names(self) -> tuple[ApplianceName, ApplianceName]:
        one, other = self.pairing.sides
        return one.appliance, other.appliance

    @property
    def couple(self) -> frozenset[ApplianceName]:
        return frozenset(self.names)

    @property
    def scoped_key(self) -> tuple[str, str] | None:
        return (self.pairing.user, self.key.key) if self.key is not None else None


def _candidate(
    request: PairingRequest, author: Author, key: IdempotencyKey | None, now: int
) -> _Candidate:
    one, other = request.appliances
    id_ = PairingId(uuid_utils.compat.uuid7())
    description = to_text(request.description)
    detail = accepted_detail(request, description)
    openings = chain.Openings(_KIND, at=now, actor=author.user, operation_id=author.operation_id)
    pairing = Pairing(
        id=id_,
        operation=request.operation,
        sides=(Side(one, other), Side(other, one)),
        operation_id=author.operation_id,
        user=author.user,
        start_time=now,
        last_updated=now,
        timeout_s=request.timeout_s,
        deadline=now + request.timeout_s * 1000,
        on_failure=request.on_failure,
        description=description,
        priority=request.priority,
        position=ChainPosition(1, openings.hash(str(id_), detail)),
    )
    return _Candidate(pairing, detail, key)


def _without_rivals(
    candidates: Sequence[_Candidate],
    settled_couples: set[frozenset[ApplianceName]],
    settled_keys: set[tuple[str, str]],
) -> tuple[list[_Candidate], list[_Candidate]]:
    """Those that can be asked for in one statement, and those that have to wait for its answers.

    Of several that want the same couple or the same key the first one goes first, unless the
    database is known to have the couple's or the key's answer by now.
    """
    now: list[_Candidate] = []
    later: list[_Candidate] = []
    couples: set[frozenset[ApplianceName]] = set()
    keys: set[tuple[str, str]] = set()
    for each in candidates:
        is_settled = each.couple in settled_couples or each.scoped_key in settled_keys
        if is_settled or not (each.couple in couples or each.scoped_key in keys):
            now.append(each)
        else:
            later.append(each)
        couples.add(each.couple)
        if each.scoped_key is not None:
            keys.add(each.scoped_key)
    return now, later


def _answer(
    candidate: _Candidate, row: Row[Any], first_time: dict[PairingId, Pairing]
) -> Acceptance | Exception:
    if row.is_made or row.is_there:
        return Acceptance(candidate.pairing, replayed=False)
    if row.kept_matches:
        return Acceptance(first_time[row.kept_id], replayed=True)
    if row.kept_id is not None and candidate.key is not None:
        return IdempotencyKeyReused()
    are_known = zip(candidate.names, (row.one_known, row.other_known), strict=True)
    unknown = [name for name, is_known in are_known if not is_known]
    return UnknownAppliance(*unknown) if unknown else PairingActive(row.active_id)


def _settle(
    candidate: _Candidate,
    answer: Acceptance | Exception,
    couples: set[frozenset[ApplianceName]],
    keys: set[tuple[str, str]],
) -> None:
    """Note what the database can answer by itself from now on."""
    was_known = isinstance(answer, IdempotencyKeyReused) or (
        isinstance(answer, Acceptance) and answer.replayed
    )
    if not was_known:
        couples.add(candidate.couple)
    if candidate.scoped_key is not None and isinstance(answer, Acceptance | IdempotencyKeyReused):
        keys.add(candidate.scoped_key)


def _parameters(candidates: Sequence[_Candidate]) -> dict[str, object]:
    pairings = [each.pairing for each in candidates]
    couples = [sorted(each.names) for each in candidates]
    return {
        "kind": _KIND,
        "ids": [pairing.id for pairing in pairings],
        "operations": [str(pairing.operation) for pairing in pairings],
        "ones": [each.names[0] for each in candidates],
        "others": [each.names[1] for each in candidates],
        "lows": [low for low, _ in couples],
        "highs": [high for _, high in couples],
        "operation_ids": [pairing.operation_id for pairing in pairings],
        "users": [pairing.user for pairing in pairings],
        "descriptions": [pairing.description for pairing in pairings],
        "priorities": [pairing.priority for pairing in pairings],
        "timeouts": [pairing.timeout_s for pairing in pairings],
        "on_failures": [str(pairing.on_failure) for pairing in pairings],
        "times": [pairing.start_time for pairing in pairings],
        "heads": [pairing.position.hash for pairing in pairings],
        "details": [each.detail for each in candidates],
        "lines": [line_of(pairing.priority, pairing.user) for pairing in pairings],
        "keys": [each.key.key if each.key is not None else None for each in candidates],
        "fingerprints": [
            each.key.fingerprint if each.key is not None else None for each in candidates
        ],
        "names": sorted({name for each in candidates for name in each.names}),
    }
