"""`sitepair batch FILE`: ask for many pairings at once, watch them, write down what failed."""

import json
import os
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os.path import samestat
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from cyclopts import Parameter
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from service.cli.batchfile import BadFile, BatchFile, Format, Source, couple_of, spool
from service.cli.following import Queue, breaking_off, patiently
from service.cli.remote import Remote, answered, fits_a_header, remote
from service.cli.rewriting import is_replaceable, refuse_unwritable, rewritten
from service.cli.status import Exit, Terminal, Unwritable, run, say, tell

_LISTED = 20
_PAGE = 1000
_NOT_WELL = ("FAILED", "CANCELED")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a batch is sent and followed."""

    format: Literal["csv", "ndjson"] | None = None
    """The format of the file, if its name does not tell."""

    atomic: Annotated[bool, Parameter(negative="")] = False
    """Accept nothing if anything would be rejected."""

    idempotency_key: str | None = None
    """The same file with the same key is accepted only once. Generated if not given."""

    failures: Path | None = None
    """Write the items that were rejected, failed or canceled to this file, in the same format. Not
    FILE itself. Nothing is written if the whole of FILE is refused."""

    wait: bool = True
    """Wait for the end. With --no-wait exit status 0 means that all items were accepted."""

    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
    """Print the batch, its rejected items and its failed pairings as JSON."""


_OPTIONS = Options()
_AS_WRITTEN: Any = {"encoding": "utf-8-sig", "errors": "surrogateescape"}
"""Spreadsheets put a byte order mark before what they write; without one it is plain UTF-8. What is
not is told by whoever reads the lines, for only they are counted."""


def batch(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)], *, options: Options = _OPTIONS
) -> int:
    """Ask for many pairings at once and wait for the end of all.

    The first line of a CSV names its columns: a and b, the two appliances, and optionally
    operation, description, onFailure, timeoutSeconds, priority. A CSV has no comments. One row with
    the wrong number of fields, or with a bad number, refuses the whole file. NDJSON has a request
    of POST /v1/pairings on each line. A file that is written to while it is sent is refused as a
    whole. Exit status: 0 all succeeded, 1 some did not or were rejected, 2 refused, 3 no usable
    answer, 130 Ctrl-C: the command stops watching, the pairings go on.

    Parameters
    ----------
    file
        A name that ends in .csv or .ndjson; - is standard input and needs --format.
    """
    if not fits_a_header(options.idempotency_key or ""):
        tell("--idempotency-key has a character that is not allowed in a key.")
        return Exit.REFUSED
    with spool() as aside, ExitStack() as stack:
        try:
            if options.failures is not None:
                _refuse_same(file, options.failures)
            kind = _kind(file, options)
            text = stack.enter_context(_opened(file, kind))
            source = Source(text)
            requests = BatchFile(text, kind, aside)
            if options.failures is not None:
                refuse_unwritable(options.failures)  # told now, not when it is needed
        except (OSError, BadFile) as error:
            return _unsent(file, error)
        return run(answered(_batch(file, requests, source, options), requests.place))


def _unsent(file: Path, error: Exception) -> Exit:
    tell(f"{file} cannot be sent:", *str(error).splitlines())
    return Exit.REFUSED


def _refuse_same(file: Path, failures: Path) -> None:
    """Whatever they are called: what was not sent would be lost."""
    if str(file) == "-" and sys.stdin is None:
        return  # It is told when it is read.
    read = os.fstat(sys.stdin.fileno()) if str(file) == "-" else file.stat()
    if stat.S_ISREG(read.st_mode) and failures.exists() and samestat(read, failures.stat()):
        raise BadFile([f"--failures {failures} is that very file: name another one."])


def _kind(file: Path, options: Options) -> Format:
    suffix = file.suffix.removeprefix(".").lower()
    if options.format is None and suffix not in {*Format}:
        raise BadFile(["Say what it is: --format csv or --format ndjson."])
    return Format(options.format or suffix)


@contextmanager
def _opened(file: Path, kind: Format) -> Iterator[TextIO]:
    # In JSON a CR is a space like any other; whoever writes CSV may end a line with it.
    how = {**_AS_WRITTEN, "newline": "" if kind is Format.CSV else "\n"}
    if str(file) == "-":
        if sys.stdin is None:
            raise BadFile(["Standard input is closed."])
        with open(sys.stdin.fileno(), closefd=False, **how) as text:
            yield text
    else:
        with file.open(**how) as text:
            yield text


async def _batch(file: Path, requests: BatchFile, source: Source, options: Options) -> Exit:
    async with remote() as service:
        try:
            accepted = await _sent(service, requests, source, options)
        except BadFile as error:
            return _unsent(file, error)
        rejected = accepted["rejected"]
        if not options.as_json:
            say(
                f"Batch {accepted['id']}: {accepted['total']} items, {accepted['accepted']} "
                f"accepted, {len(rejected)} rejected."
            )
            say(*_told_rejections(requests, rejected))
        if options.failures is not None and is_replaceable(options.failures):
            # What is known already, for whoever stops watching. A pipe gets it at the end, once.
            _write_failures(options.failures, requests, accepted, [])
        ended = await _followed(service, accepted["id"], options) if options.wait else None
        unwell = await _unwell(service, accepted["id"], ended)
        if options.as_json:
            standing: Any = ended or await _standing(service, accepted["id"])
            say(json.dumps({**standing, "rejected": rejected, "failed": unwell}, indent=2))
        elif ended is not None:
            say(*_told_end(ended, unwell))
        if options.failures is not None:
            count = _write_failures(options.failures, requests, accepted, unwell)
            tell(f"{count} written to {options.failures}.")
    return Exit.FAILED if rejected or unwell else Exit.OK


async def _sent(service: Remote, requests: BatchFile, source: Source, options: Options) -> Any:
    """The answer. A connection that is lost is no harm: the key sees to that; without an answer
    whoever waits for it is told the key. Raises BadFile; then nothing was accepted."""
    key = options.idempotency_key
    if key is None:
        key = secrets.token_hex(16)
    path = f"/v1/batches?atomic={str(options.atomic).lower()}"
    # Who may not ask is told so before all of it is on its way.
    await patiently(service.call, "GET", "/v1/pairings?limit=1")

    async def send() -> Any:
        pieces = _pieces(requests, source)
        return await service.upload(path, pieces, "application/x-ndjson", Idempotency_Key=key)

    with breaking_off(
        "It is not known whether the batch was accepted. The same command with --idempotency-key "
        f"{key} gets the answer, and asks for nothing twice."
    ):
        return await patiently(send)


async def _pieces(requests: BatchFile, source: Source) -> AsyncIterator[bytes]:
    for piece in requests.pieces():
        yield piece
    source.complete()


async def _followed(service: Remote, batch_id: str, options: Options) -> Any:
    queue = Queue("the appliances")
    with breaking_off(f"Batch {batch_id} goes on without being watched."):
        batch = await _standing(service, batch_id)
        with _bar(Terminal(stderr=options.as_json)) as show:
            show(batch)
            while batch["endTime"] == -1:
                batch = await _standing(service, batch_id, "?waitSeconds=1")
                show(batch)
                queue.see(is_queued=batch["counts"]["QUEUED"] == batch["accepted"])
    return batch


async def _standing(service: Remote, batch_id: str, query: str = "") -> Any:
    return await patiently(service.call, "GET", f"/v1/batches/{batch_id}{query}")


@contextmanager
def _bar(console: Terminal) -> Iterator[Any]:
    """Shows a batch: as a bar on a terminal, elsewhere as a line for each tenth of its way."""
    if not console.is_interactive:
        yield _Tenths(console).show
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("")

        def show(batch: Any) -> None:
            over = sum(batch["counts"][state] for state in ("SUCCEEDED", *_NOT_WELL))
            total = max(1, batch["accepted"])
            done = over if batch["accepted"] else total
            progress.update(task, total=total, completed=done, description=_told_counts(batch))

        yield show


class _Tenths:
    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._shown = -1

    def show(self, batch: Any) -> None:
        tenth = batch["progress"] // 10
        if tenth > self._shown:
            self._shown = tenth
            line = f"{batch['progress']} % {_told_counts(batch)}".rstrip()
            self._console.print(line, soft_wrap=True, highlight=False)


async def _unwell(service: Remote, batch: str, ended: Any | None) -> list[Any]:
    """The pairings that came to no good end; none before the end."""
    found: list[Any] = []
    for state in _NOT_WELL:
        if ended is None or ended["counts"][state] == 0:
            continue
        path = f"/v1/pairings?batch={batch}&state={state}&limit={_PAGE}"
        page = await patiently(service.call, "GET", path)
        found += page["items"]
        while page["nextCursor"] is not None:
            page = await patiently(service.call, "GET", f"{path}&cursor={page['nextCursor']}")
            found += page["items"]
    return sorted(found, key=lambda pairing: str(pairing["id"]))


def _write_failures(path: Path, requests: BatchFile, accepted: Any, unwell: Sequence[Any]) -> int:
    """What is to be tried again, in the order of the file; how much that was. Raises Unwritable."""
    turned_down = {each["index"] for each in accepted["rejected"]}
    couples = {frozenset(pairing["appliances"]) for pairing in unwell}

    def is_to_be_written(index: int, item: Any) -> bool:
        return index in turned_down or couple_of(item) in couples

    try:
        with rewritten(path) as out:
            return requests.write(out, is_to_be_written)
    except OSError as error:
        raise Unwritable(
            f"Batch {accepted['id']} was accepted, and {path} cannot be written: {error}"
        ) from error


def _told_counts(batch: Any) -> str:
    return ", ".join(f"{count} {state}" for state, count in batch["counts"].items() if count)


def _told_rejections(requests: BatchFile, rejected: Sequence[Any]) -> list[str]:
    lines = [
        f"  {requests.place(each['index'])}: {each['code']}: {each['detail']}"
        for each in rejected[:_LISTED]
    ]
    return lines + _more(rejected)


def _told_end(batch: Any, unwell: Sequence[Any]) -> list[str]:
    lines = [f"Batch {batch['id']} is over: {_told_counts(batch) or 'nothing was accepted'}."]
    for pairing in unwell[:_LISTED]:
        error = pairing["error"]
        why = f": {error['code']}: {error['msg']}" if error is not None else ""
        couple = " - ".join(pairing["appliances"])
        lines.append(f"  {couple} {pairing['state']}{why} ({pairing['id']})")
    return [*lines, *_more(unwell), f"  operationID {batch['operationID']}"]


def _more(listed: Sequence[Any]) -> list[str]:
    more = len(listed) - _LISTED
    return [f"  ... and {more} more (--json or --failures has them all)"] if more > 0 else []
