"""`python -m bench.batches`: batches accepted over HTTP, against COPY of as many rows.

Both go into the same tables of the same PostgreSQL, empty each time; rounds are interleaved. Of a
batch the time from the first byte sent to the answer is measured; of COPY, the transaction.
"""

import io
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import uuid_utils.compat

from bench.figures import Row, Target, alone, ratio
from bench.options import Options
from bench.postgres import Postgres
from bench.processes import service
from bench.report import command, tell
from service.store.bulkrows import EVENT, PAIRING, SIDE, Record

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

DEFAULTS = Options(appliances=320, pairings=50_000)
_EMPTY = "truncate pairing, side, event, batch cascade; vacuum; checkpoint"
Couple = tuple[str, str]


async def measure(options: Options) -> list[Row]:
    """Accepted durably a second."""
    names = [f"site-{number}" for number in range(options.appliances)]
    couples = list(islice(combinations(names, 2), options.pairings))
    rounds = []
    async with (
        Postgres.started() as postgres,
        postgres.migrated() as url,
        postgres.directory() as place,
        service(place, 1, url, "api") as api,
        aiohttp.ClientSession(
            api.described["url"], headers={"Authorization": f"Bearer {api.described['token']}"}
        ) as session,
    ):
        await _register(session, names)
        connection = await asyncpg.connect(url)
        try:
            for number in range(options.rounds):
                batch_s = await _post(session, couples)
                await _emptied(connection)
                copy_s = await _copy(connection, couples)
                await _emptied(connection)
                rounds.append((len(couples) / batch_s, len(couples) / copy_s))
                mine, theirs = rounds[-1]
                tell(f"batches {number + 1}: accepted {mine:.0f}/s, COPY {theirs:.0f}/s")
        finally:
            await connection.close()
    figure = "POST /v1/batches, pairings accepted/s"
    return [
        alone(figure, [mine for mine, _ in rounds], Target(20_000, 40_000, higher_is_better=True)),
        ratio(figure, "COPY", rounds, Target(0.15, 0.3, higher_is_better=True)),
    ]


async def _register(session: aiohttp.ClientSession, names: Sequence[str]) -> None:
    for name in names:
        body = {
            "managementUrl": "https://127.0.0.1",
            "apiUrl": f"https://{name}.invalid:8048/",
            "apiThumbprint": "SHA-256" + ":AB" * 32,
            "credentials": {"type": "localUser", "localUser": "root", "localPassword": "x"},
        }
        async with session.put(f"/v1/appliances/{name}", json=body) as response:
            response.raise_for_status()


async def _post(session: aiohttp.ClientSession, couples: Sequence[Couple]) -> float:
    lines = b"".join([json.dumps({"appliances": couple}).encode() + b"\n" for couple in couples])
    headers = {"Content-Type": "application/x-ndjson"}
    began = time.perf_counter()
    async with session.post("/v1/batches", data=io.BytesIO(lines), headers=headers) as response:
        answer: Any = await response.json()
    took_s = time.perf_counter() - began
    if response.status != 202 or answer["accepted"] != len(couples):
        raise RuntimeError(f"{response.status}: {str(answer)[:500]}")
    return took_s


async def _copy(connection: "Connection", couples: Sequence[Couple]) -> float:
    batch, now, at = uuid_utils.compat.uuid7(), time.time_ns() // 1_000_000, datetime.now(UTC)
    detail = json.dumps(
        {"appliances": couples[0], "batch": str(batch), "description": "", "onFailure": "rollback",
         "operation": "pair", "priority": 0, "timeoutS": 900}
    )  # fmt: skip
    pairings: list[Record] = []
    sides: list[Record] = []
    events: list[Record] = []
    for couple in couples:
        id_, (low, high) = uuid_utils.compat.uuid7(), sorted(couple)
        pairings.append(
            (id_, "pair", "QUEUED", low, high, "op-1", "admin", "", 0, 900, now, now, 0, 1,
             bytes(32), "rollback", batch, f"+000:{batch}")
        )  # fmt: skip
        sides.append((id_, 0, *couple, "PENDING", 0))
        sides.append((id_, 1, *reversed(couple), "PENDING", 0))
        events.append((id_, 1, at, "PairingAccepted", "admin", "op-1", detail, bytes(32)))
    began = time.perf_counter()
    async with connection.transaction():
        await connection.copy_records_to_table("pairing", records=pairings, columns=PAIRING)
        await connection.copy_records_to_table("side", records=sides, columns=SIDE)
        await connection.copy_records_to_table("event", records=events, columns=EVENT)
    return time.perf_counter() - began


async def _emptied(connection: "Connection") -> None:
    for statement in _EMPTY.split("; "):
        await connection.execute(statement)


if __name__ == "__main__":
    command("bench.batches", __doc__, measure, DEFAULTS)
