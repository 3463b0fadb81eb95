"""`sitepair audit verify`: whether the record was tampered with, by the database's own account."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter

from service.cli.status import Exit, run, say
from service.domain.chain import Verdict, Wrong
from service.domain.events import Entry
from service.observe.logging import configure
from service.settings import from_environment
from service.store.rows import to_time
from service.upkeep import verify_chains

app = App(name="audit", help="Check the audit trail.")

_WORDS = {
    Wrong.CHANGED: "changed or inserted, or the event before it was",
    Wrong.MISSING_BEFORE: "events are missing before it",
    Wrong.MISSING_AFTER: "events are missing after it",
    Wrong.HEAD_DIFFERS: "the head differs from it",
    Wrong.NO_HEAD: "the owner of the chain is missing, and this event is not ApplianceRemoved",
    Wrong.NO_EVENTS: "all its events are missing",
    Wrong.NOT_SHOWN: "GET /v1/audit does not show it: its transaction is of the future",
}


@dataclass(slots=True)
class _Count:
    """What was looked at so far, and what did not fit."""

    chains: int = 0
    events: int = 0
    findings: list[dict[str, object]] = field(default_factory=list)


@app.command
def verify(
    *,
    pairing: UUID | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Verify the hash chain of every pairing and every registration.

    Names the first event of each broken chain that does not fit. May be run while the service runs.
    Exit status: 0 all chains are sound, 1 one is broken, 2 it could not check, 3 the database does
    not answer.

    Parameters
    ----------
    pairing
        Verify only the chain of the pairing with this id.
    """
    return run(_verify(pairing, as_json=as_json), otherwise=Exit.REFUSED)


async def _verify(pairing: UUID | None, *, as_json: bool) -> Exit:
    settings = from_environment(os.environ)
    configure(level=settings.log_level)
    count = _Count()
    await verify_chains(settings, pairing, _told(count, as_json=as_json))
    if as_json:
        content = {"ok": not count.findings, "chains": count.chains, "events": count.events}
        say(json.dumps({**content, "findings": count.findings}, indent=2))
    else:
        found = f"{len(count.findings)} broken" if count.findings else "all sound"
        say(f"{_of(count.chains, 'chain')} with {_of(count.events, 'event')}: {found}.")
    return Exit.FAILED if count.findings else Exit.OK


def _told(count: _Count, *, as_json: bool) -> Callable[[Verdict], None]:
    def tell(verdict: Verdict) -> None:
        count.chains += 1
        count.events += verdict.events
        if verdict.misfit is not None:
            count.findings.append(_finding(verdict, verdict.misfit.wrong, verdict.misfit.entry))
            if not as_json:
                say(_line(verdict, verdict.misfit.wrong, verdict.misfit.entry))

    return tell


def _finding(verdict: Verdict, wrong: Wrong, entry: Entry | None) -> dict[str, object]:
    return {
        "chain": str(verdict.chain),
        "kind": "pairing" if verdict.appliance is None else "appliance",
        "appliance": verdict.appliance,
        "seq": entry.seq if entry is not None else None,
        "type": entry.type if entry is not None else None,
        "at": entry.at if entry is not None else None,
        "wrong": wrong,
        "detail": _WORDS[wrong],
    }


def _line(verdict: Verdict, wrong: Wrong, entry: Entry | None) -> str:
    kind = "pairing" if verdict.appliance is None else f"appliance {verdict.appliance}"
    if entry is None:
        return f"{kind} {verdict.chain}: {_WORDS[wrong]}"
    event = f"event {entry.seq} ({entry.type}, {_time(entry.at)})"
    return f"{kind} {verdict.chain}: {event}: {_WORDS[wrong]}"


def _of(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _time(at: int) -> str:
    if at < 0:
        return "an impossible time"
    try:
        return to_time(at).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{at} ms"
