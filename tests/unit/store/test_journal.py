"""The journal's patience, without a database: its lane is the test's own, and waiting costs
nothing."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs
from sqlalchemy import TextClause

from service.domain.advance import Change, advance
from service.domain.errors import LeaseLost, StoreUnavailable, Unwanted
from service.domain.events import PairingFailed, PairingHandedBack, PairingStarted
from service.domain.ids import PairingId
from service.domain.pairing import Pairing
from service.observe.events import JournalUnsure, LogEvent, StoreTroubled
from service.observe.logging import listening
from service.store.errors import Locked, RolledBack
from service.store.journal import Journal
from service.store.statements import statement
from tests.support.arrays import elements
from tests.support.virtual_time import now, run
from tests.unit.domain.values import ERROR, a_pairing


@dataclass(frozen=True)
class Row:
    """What both statements answer, and a bit of what the table holds."""

    id: PairingId
    epoch: int
    seq: int = 0
    asked_epoch: int = 0
    is_recorded: bool = False
    is_unwanted: bool = False


@dataclass
class Table:
    """A lane whose statements take effect here. Before and after each, a fault may come."""

    rows: dict[PairingId, Row]
    hashes: set[bytes] = field(default_factory=set)
    before: list[Exception | None] = field(default_factory=list)
    after: list[Exception | None] = field(default_factory=list)
    meanwhile: list[Callable[[], None]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def run(
        self, asked: TextClause, parameters: Mapping[str, object] | None = None
    ) -> Sequence[Any]:
        """Carry it out."""
        is_write = asked is statement("journal")
        self.asked.append("write" if is_write else "look")
        _raise_next(self.before)
        columns: Any = parameters
        answer = self._write(columns) if is_write else self._look(columns)
        if self.meanwhile:
            self.meanwhile.pop(0)()
        _raise_next(self.after)
        return answer

    async def close(self) -> None:
        """There is nothing to close."""

    def _write(self, columns: Any) -> list[Row]:
        granted = []
        heads = dict(zip(elements(columns["entry_places"]), columns["hashes"], strict=True))
        changed = [elements(columns[name]) for name in ("ids", "epochs", "followed", "seqs")]
        for place, (spelt_id, epoch, followed, seq) in enumerate(
            zip(*changed, strict=True), start=1
        ):
            pairing_id = PairingId(UUID(spelt_id))
            row = self.rows[pairing_id]
            if (row.epoch, row.seq) == (epoch, followed) and not row.is_unwanted:
                self.rows[pairing_id] = replace(row, seq=seq)
                self.hashes.add(heads[place])
                granted.append(row)
        return granted

    def _look(self, columns: Any) -> list[Row]:
        asked = zip(columns["ids"], columns["epochs"], columns["heads"], strict=True)
        return [
            replace(self.rows[each], asked_epoch=epoch, is_recorded=head in self.hashes)
            for each, epoch, head in asked
        ]


def _raise_next(faults: list[Exception | None]) -> None:
    fault = faults.pop(0) if faults else None
    if fault is not None:
        raise fault


def gone() -> StoreUnavailable:
    """The database does not answer."""
    return StoreUnavailable("gone")


def numbered(number: int) -> Pairing:
    """A pairing that was claimed."""
    return structs.replace(a_pairing(), id=PairingId(UUID(int=number)), epoch=1)


def started(before: Pairing) -> Change:
    """A worker took it."""
    after, entry = advance(before, PairingStarted("w", before.epoch), at=5, actor="w")
    return Change(after, (entry,))


def handed_back(before: Change) -> Change:
    """A worker gave it up."""
    after, entry = advance(before.pairing, PairingHandedBack("w"), at=6, actor="w")
    return Change(after, (entry,), release=True)


def failed(before: Pairing) -> Change:
    """Its end."""
    after, entry = advance(before, PairingFailed(ERROR), at=6, actor="w")
    return Change(after, (entry,))


def table(*pairings: Pairing) -> Table:
    """What they are before anything happens to them."""
    return Table({each.id: Row(each.id, each.epoch, each.position.seq) for each in pairings})


async def written(
    lane: Table, changes: Sequence[Change], patience_s: float = 15.0
) -> list[BaseException | None]:
    """What the callers are told whose changes come all at once."""
    journal = Journal(lane, patience_s=patience_s, jitter=lambda: 0.5)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        answers = await asyncio.gather(
            *[journal.append(change) for change in changes], return_exceptions=True
        )
        await journal.stop()
    return list(answers)


def test_what_is_granted_is_not_asked_about() -> None:
    lane = table(*map(numbered, range(3)))
    assert run(written(lane, [started(numbered(each)) for each in range(3)])) == [None] * 3
    assert lane.asked == ["write"]


def test_while_the_database_is_away_it_is_asked_again_and_again_with_growing_pauses() -> None:
    lane = table(numbered(1))
    lane.before = [gone()] * 8
    asked_at: list[float] = []

    async def story() -> list[BaseException | None]:
        lane.meanwhile = [lambda: asked_at.append(now())]
        return await written(lane, [started(numbered(1))])

    assert run(story()) == [None]
    assert lane.asked == ["write"] * 9
    assert 3 < asked_at[0] < 10


def test_when_patience_is_over_all_callers_hear_of_it_and_nothing_was_written_twice() -> None:
    lane = table(numbered(1), numbered(2))
    lane.after = [gone()] * 1000
    ended: list[float] = []

    async def story() -> list[BaseException | None]:
        answers = await written(lane, [started(numbered(each)) for each in (1, 2)])
        ended.append(now())
        return answers

    assert [type(each) for each in run(story())] == [StoreUnavailable] * 2
    assert ended[0] == pytest.approx(15, abs=0.1)
    assert [row.seq for row in lane.rows.values()] == [numbered(1).position.seq + 1] * 2


def test_trouble_is_told_of_while_it_lasts() -> None:
    told: list[LogEvent] = []
    lane = table(numbered(1))
    lane.before = [gone(), gone()]
    with listening(told.append):
        assert run(written(lane, [started(numbered(1))])) == [None]
    assert told == [
        JournalUnsure(pairings=1, error="gone"),
        *[StoreTroubled(doing="writing the journal", error="gone")] * 2,
    ]


def test_an_end_that_somebody_did_not_want_is_refused_at_once() -> None:
    began = started(numbered(1)).pairing
    lane = table(began, numbered(2))
    lane.rows[began.id] = replace(lane.rows[began.id], is_unwanted=True)
    answers = run(written(lane, [failed(began), started(numbered(2))]))
    assert [type(each) for each in answers] == [Unwanted, type(None)]
    assert lane.asked == ["write", "look"]


def test_a_lost_answer_is_looked_up() -> None:
    lane = table(numbered(1))
    lane.after = [gone()]
    assert run(written(lane, [started(numbered(1))])) == [None]
    assert lane.asked == ["write", "write", "look"]


def test_a_lost_answer_to_the_look_up_is_no_answer_either() -> None:
    lane = table(numbered(1))
    lane.after = [gone(), None, gone(), None, gone()]
    assert run(written(lane, [started(numbered(1))])) == [None]
    assert lane.rows[numbered(1).id].seq == numbered(1).position.seq + 1


def test_of_a_group_only_those_that_are_really_lost_are_lost() -> None:
    fenced, written_before = numbered(1), numbered(2)
    lane = table(structs.replace(fenced, epoch=2), written_before)
    lane.after = [gone()]
    answers = run(written(lane, [started(fenced), started(written_before)]))
    assert [type(each) for each in answers] == [LeaseLost, type(None)]


def test_who_is_fenced_off_after_the_write_is_told_so() -> None:
    lane = table(numbered(1))

    def fence() -> None:
        lane.rows[numbered(1).id] = replace(lane.rows[numbered(1).id], epoch=2)

    lane.meanwhile, lane.after = [fence], [gone()]
    assert [type(each) for each in run(written(lane, [started(numbered(1))]))] == [LeaseLost]


def test_who_gave_it_up_does_not_mind_what_comes_after() -> None:
    lane = table(numbered(1))
    began = started(numbered(1))

    def take_over() -> None:
        row = lane.rows[numbered(1).id]
        lane.rows[numbered(1).id] = replace(row, epoch=2, seq=row.seq + 3)

    lane.meanwhile, lane.after = [take_over], [gone()]
    assert run(written(lane, [began, handed_back(began)])) == [None, None]


def test_a_database_that_forgot_what_it_had_written_gets_it_again() -> None:
    """It failed over to a copy that lagged behind, between the refusal and the look."""
    lane = table(numbered(1))

    def forget() -> None:
        lane.rows[numbered(1).id] = table(numbered(1)).rows[numbered(1).id]
        lane.hashes.clear()

    lane.after = [gone()]
    lane.meanwhile = [lambda: None, forget]
    assert run(written(lane, [started(numbered(1))])) == [None]
    assert lane.asked == ["write", "write", "look", "write"]


def test_what_is_undone_for_others_is_written_again_at_once() -> None:
    lane = table(numbered(1))
    lane.before = [RolledBack("deadlock")] * 4

    async def story() -> float:
        assert await written(lane, [started(numbered(1))]) == [None]
        return now()

    assert run(story()) == 0
    assert lane.asked == ["write"] * 5


def test_what_is_undone_without_end_fails_alone() -> None:
    lane = table(numbered(1), numbered(2))
    lane.before = [RolledBack("deadlock")] * 10
    answers = run(written(lane, [started(numbered(each)) for each in (1, 2)]))
    assert [type(each) for each in answers] == [RolledBack, type(None)]


@pytest.mark.parametrize("first", [gone(), RolledBack("deadlock")])
def test_what_is_undone_after_a_try_that_may_have_been_written_is_in_doubt(
    first: StoreUnavailable,
) -> None:
    lane = table(numbered(1))
    lane.before = [first, Locked("held")]
    [undone] = run(written(lane, [started(numbered(1))]))
    assert isinstance(undone, Locked)
    assert undone.in_doubt is not isinstance(first, RolledBack)


def test_a_stop_in_the_middle_of_trouble_waits_until_it_is_written() -> None:
    lane = table(numbered(1))
    lane.before = [gone()] * 3

    async def story() -> BaseException | None:
        journal = Journal(lane, jitter=lambda: 0.5)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(journal.run())
            appending = tasks.create_task(journal.append(started(numbered(1))))
            await asyncio.sleep(0.01)
            await journal.stop()
            assert appending.done()
            return appending.exception()

    assert run(story()) is None


def test_a_change_that_was_appended_before_is_durable() -> None:
    lane = table(numbered(1))
    change = started(numbered(1))

    async def story() -> list[BaseException | None]:
        return await written(lane, [change]) + await written(lane, [change])

    assert run(story()) == [None, None]
    assert lane.rows[numbered(1).id].seq == change.pairing.position.seq
