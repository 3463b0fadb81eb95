"""The very CHECK constraints of the tables, asked about values. SQLite reads them as PostgreSQL
does, except for the patterns of names, which no event changes."""

import json
import sqlite3
from collections.abc import Iterator, Mapping

from sqlalchemy import CheckConstraint, Table

from service.domain.appliance import ApiError
from service.domain.pairing import Pairing, Side
from service.store import tables


class RowChecks:
    """Tells which constraints a pairing's rows would break."""

    def __init__(self) -> None:
        self._sqlite = sqlite3.connect(":memory:")
        self._pairing = _Question(tables.pairing)
        self._side = _Question(tables.side)

    def broken(self, pairing: Pairing) -> list[str]:
        """The names of the constraints that do not hold."""
        rows = [_side_row(ordinal, side) for ordinal, side in enumerate(pairing.sides)]
        return [
            *self._pairing.ask(self._sqlite, _pairing_row(pairing)),
            *[name for row in rows for name in self._side.ask(self._sqlite, row)],
        ]


class _Question:
    """All constraints of one table, in one statement."""

    def __init__(self, table: Table) -> None:
        self._columns = [column.name for column in table.columns]
        checks = dict(_checks(table))
        self.names = list(checks)
        columns = ", ".join(f'? as "{name}"' for name in self._columns)
        # As in PostgreSQL, a constraint that is neither true nor false holds.
        conditions = ", ".join(f"({condition}) is not false" for condition in checks.values())
        self._sql = f"select {conditions} from (select {columns})"  # noqa: S608

    def ask(self, sqlite: sqlite3.Connection, row: Mapping[str, object]) -> list[str]:
        values = [row.get(name) for name in self._columns]
        answers = sqlite.execute(self._sql, values).fetchone()
        return [name for name, holds in zip(self.names, answers, strict=True) if not holds]


def _checks(table: Table) -> Iterator[tuple[str, str]]:
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint):
            condition = str(constraint.sqltext)
            if "~" not in condition:
                yield str(constraint.name), condition.replace("octet_length", "length")


def _pairing_row(pairing: Pairing) -> dict[str, object]:
    return {
        "operation": pairing.operation,
        "state": pairing.state,
        "phase": pairing.phase,
        "priority": pairing.priority,
        "timeout_s": pairing.timeout_s,
        "start_time": pairing.start_time,
        "last_updated": pairing.last_updated,
        "end_time": pairing.end_time,
        "error": _json(pairing.error),
        "epoch": pairing.epoch,
        "seq": max(pairing.position.seq, 1),
        "head": pairing.position.hash,
        "on_failure": pairing.on_failure,
        "deadline": pairing.deadline,
        "is_canceling": pairing.is_canceling,
    }


def _side_row(ordinal: int, side: Side) -> dict[str, object]:
    return {
        "ordinal": ordinal,
        "appliance": side.appliance,
        "peer": side.peer,
        "state": side.state,
        "task_id": side.task_id,
        "attempts": side.attempts,
        "start_time": side.start_time,
        "end_time": side.end_time,
        "result": None if side.result is None else side.result.decode(),
        "error": _json(side.error),
        "call": side.call,
        "losses": side.losses,
    }


def _json(error: ApiError | None) -> str | None:
    return None if error is None else json.dumps(error.code)
