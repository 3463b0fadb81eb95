"""`sitepair prune`: removes what is old from the database."""

import json
import os
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter

from service.cli.status import Exit, run, say, tell
from service.observe.logging import configure
from service.settings import from_environment
from service.store.pruning import Pruned
from service.store.rows import to_time
from service.upkeep import prune as prune_database

_AGE = re.compile(r"([1-9][0-9]{0,3})([dw])")
_UNITS = {"d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(slots=True)
class _Sum:
    """What went so far."""

    cut_off: int | None = None
    is_complete: bool = False
    gone: Pruned = field(default_factory=Pruned)

    def add(self, cut_off: int, step: Pruned) -> None:
        self.cut_off = cut_off
        self.gone += step


def prune(
    *,
    older_than: str,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Remove pairings that ended long ago, and the months of the audit trail before that.

    May be run while the service runs, interrupted at any time, and run again. Exit status: 0 done,
    1 a month had to be kept (run it again later) or the schema is another one, 2 refused, 3 the
    database does not answer.

    Parameters
    ----------
    older_than
        Age in days or weeks: 90d, 12w.
    dry_run
        Only print what would be removed.
    """
    age = age_from(older_than)
    if age is None:
        tell(f"--older-than takes 1 to 9999 days or weeks, like 90d or 12w, not {older_than!r}.")
        return Exit.REFUSED
    return run(_prune(age, dry_run=dry_run, as_json=as_json))


def age_from(text: str) -> timedelta | None:
    """What `text` means: 1d to 9999w; None if nothing."""
    found = _AGE.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found is not None else None


async def _prune(age: timedelta, *, dry_run: bool, as_json: bool) -> Exit:
    settings = from_environment(os.environ)
    configure(level=settings.log_level)
    summed = _Sum()
    try:
        await prune_database(settings, age, summed.add, dry_run=dry_run)
        summed.is_complete = True
    finally:
        # Interrupted, it has removed what it has removed.
        if summed.cut_off is not None:
            _report(summed, summed.cut_off, dry_run=dry_run, as_json=as_json)
    return Exit.FAILED if summed.gone.kept else Exit.OK


def _report(summed: _Sum, cut_off: int, *, dry_run: bool, as_json: bool) -> None:
    gone = summed.gone
    if as_json:
        content = {
            "cutOff": cut_off,
            "dryRun": dry_run,
            "complete": summed.is_complete,
            "pairings": gone.pairings,
            "events": gone.events,
            "idempotencyKeys": gone.keys,
            "batches": gone.batches,
            "removedAppliances": gone.registrations,
            "months": gone.months,
            "kept": gone.kept,
        }
        say(json.dumps(content, indent=2))
        return
    before = to_time(cut_off).isoformat(timespec="seconds")
    verb = "Would remove" if dry_run else "Removed"
    say(
        f"{verb} {gone.pairings} pairings that were over before {before}, with {gone.events} "
        f"events and {gone.keys} idempotency keys; batches: {gone.batches}; "
        f"months: {', '.join(gone.months) or 'none'}."
    )
    if gone.registrations:
        say(f"Of the events, some were those of {gone.registrations} removed appliances.")
    for reason in gone.kept:
        tell(f"Kept {reason}")
    if not summed.is_complete:
        tell("Interrupted: run it again to remove the rest.")
