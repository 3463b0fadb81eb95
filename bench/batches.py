"""`python -m bench.batches`: batches accepted over HTTP, against COPY of as many rows.

Both go into the same tables of the same PostgreSQL, empty each time; rounds are interleaved. Of a
batch the time from the first byte sent to the answer is measured; of COPY, the transaction.
"""

import argparse
import asyncio
import io
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import uuid_utils.compat

from bench.processes import cpu_s, service
from service.store.bulkrows import EVENT, PAIRING, SIDE, Record
from service.store.embedded import embedded_postgres

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_EMPTY = "truncate pairing, side, event, batch, batch_tally, idempotency; vacuum; checkpoint"
Couple = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured: pairings per second, and the service's CPU for each."""

    batch: float
    copy: float
    cpu_us: float

    @property
    def ratio(self) -> float:
        """The batch's speed as a share of COPY's."""
        return self.batch / self.copy


def main() -> None:
    """Measure and print."""
    options = _options()
    rounds = asyncio.run(_measure(options))
    ratios = [each.ratio for each in rounds]
    figures = {
        "accepted per second": (median(r.batch for r in rounds), min(r.batch for r in rounds)),
        "COPY, rows of so many per second": (median(r.copy for r in rounds), None),
        "share of COPY": (median(ratios), min(ratios)),
        "CPU us per item in the service": (
            median(r.cpu_us for r in rounds),
            max(r.cpu_us for r in rounds),
        ),
    }
    if options.json:
        named = {name: {"median": m, "worst": w} for name, (m, w) in figures.items()}
        print(json.dumps(named, indent=2))
        return
    print(f"{'figure':36} {'median':>10} {'worst':>10}")
    for name, (middle, worst) in figures.items():
        print(f"{name:36} {middle:10.2f} {'' if worst is None else f'{worst:10.2f}'}")


async def _measure(options: argparse.Namespace) -> list[Round]:
    names = [f"site-{number}" for number in range(options.appliances)]
    couples = list(itertools.islice(itertools.combinations(names, 2), options.items))
    if len(couples) < options.items:
        raise SystemExit(f"{options.appliances} appliances make {len(couples)} couples at most")
    with tempfile.TemporaryDirectory(prefix="sitepair-bench-") as directory:
        os.chmod(directory, 0o711)  # noqa: PTH101, S103 - PostgreSQL runs as another account
        async with (
            service(Path(directory), 0) as (process, at),
            embedded_postgres(Path(directory)) as url,
            aiohttp.ClientSession(
                at["url"], headers={"Authorization": f"Bearer {at['token']}"}
            ) as session,
        ):
            await _register(session, names)
            connection = await asyncpg.connect(url)
            rounds = []
            for number in range(options.rounds):
                before = cpu_s(process)
                batch_s = await _post(session, couples)
                cpu = cpu_s(process) - before
                await _emptied(connection)
                copy_s = await _copy(connection, couples)
                await _emptied(connection)
                count = len(couples)
                rounds.append(Round(count / batch_s, count / copy_s, 1e6 * cpu / count))
                sys.stderr.write(f"round {number + 1}: {rounds[-1]}\n")
            await connection.close()
            return rounds


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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.batches", description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--appliances", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
