"""Files of requests, as they are read and sent."""

import gc
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.cli.batch import batch
from service.cli.batchfile import BadFile, BatchFile, Format, Source, spool
from service.cli.status import Exit


@contextmanager
def csv_of(text: str) -> Iterator[BatchFile]:
    """What is in such a file."""
    with spool() as aside:
        yield BatchFile(io.StringIO(text, newline=""), Format.CSV, aside)


def test_text_is_sent_as_it_is() -> None:
    with csv_of("a,b,description\nx,y,\u017elu\u0165\u00e1 \U0001f40e\n") as file:
        sent = b"".join(file.pieces())
    assert "\u017elu\u0165\u00e1 \U0001f40e".encode() in sent
    assert json.loads(sent)["appliances"] == ["x", "y"]


def test_a_record_of_several_lines_is_at_its_first_one() -> None:
    with csv_of('a,b,description\nx,y,"one\r\ntwo"\n\nx,z,"three\n"\nx,w,\n') as file:
        assert [file.place(index) for index in range(len(file))] == ["line 2", "line 5", "line 7"]


@pytest.mark.parametrize("text", ["x\ry", "x\ny", "x\r\ny", 'x, "y"', "x;y", "\u017e"])
def test_what_is_written_again_can_be_read_again(text: str) -> None:
    out = io.StringIO(newline="")
    quoted = text.replace('"', '""')
    with csv_of(f'a,b,description,priority\nx,y,"{quoted}",5\nx,z,,\n') as file:
        sent = b"".join(file.pieces())
        assert file.write(out, lambda _index, _item: True) == 2
    with csv_of(out.getvalue()) as again:
        assert b"".join(again.pieces()) == sent


def test_numbers_are_plain_digits() -> None:
    with csv_of("a,b,timeoutSeconds,priority\nx,y,060,-5\n") as file:
        (item,) = map(json.loads, b"".join(file.pieces()).splitlines())
    assert (item["timeoutSeconds"], item["priority"]) == (60, -5)


def test_of_many_faults_the_first_are_told_and_how_many_more_there_are() -> None:
    with pytest.raises(BadFile) as refused, csv_of("a,b\n" + "x\n" * 22):
        pass
    *told, more = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in told] == [f"line {n}" for n in range(2, 22)]
    assert more == "... and 2 more"


def test_what_was_all_sent_once_may_be_written_to_before_it_is_sent_again(tmp_path: Path) -> None:
    file = tmp_path / "sites.csv"
    file.write_text("a,b\n")
    with file.open() as text:
        source = Source(text)
        source.complete()
        file.write_text("a,b\nx,y\n")
        source.complete()


def test_a_pipe_was_written_to_meanwhile_and_is_complete_all_the_same(tmp_path: Path) -> None:
    pipe = tmp_path / "sites.csv"
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDWR)) as text:
        source = Source(text)
        os.utime(pipe, ns=(1, 1))
        source.complete()


@pytest.mark.parametrize(
    ("last", "status"), [("", Exit.UNREACHABLE), ("x,y,z,too many\n", Exit.REFUSED)]
)
def test_what_was_kept_aside_is_closed_however_the_command_ends(
    last: str,
    status: Exit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """More than fits into memory, so that there is a file."""
    monkeypatch.setenv("SITEPAIR_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SITEPAIR_TOKEN", "a token of no use")
    file = tmp_path / "many.csv"
    file.write_text("a,b,description\n" + f"x,y,{'z' * 100}\n" * 10_000 + last)
    assert batch(file) == status
    gc.collect()
    assert [str(each.message) for each in recwarn] == []
