"""Files of requests, as they are read and sent."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager

from service.cli.batchfile import BatchFile, Format


@contextmanager
def csv_of(text: str) -> Iterator[BatchFile]:
    """What is in such a file."""
    file = BatchFile(io.StringIO(text, newline=""), Format.CSV)
    with file._spool:
        yield file


def test_text_is_sent_as_it_is() -> None:
    with csv_of("a,b,description\nx,y,\u017elu\u0165\u00e1 \U0001f40e\n") as file:
        sent = b"".join(file.pieces())
    assert "\u017elu\u0165\u00e1 \U0001f40e".encode() in sent
    assert json.loads(sent)["appliances"] == ["x", "y"]


def test_a_record_of_several_lines_is_at_its_first_one() -> None:
    with csv_of('a,b,description\nx,y,"one\r\ntwo"\n\nx,z,"three\n"\nx,w,\n') as file:
        assert [file.place(index) for index in range(len(file))] == ["line 2", "line 5", "line 7"]


def test_numbers_are_plain_digits() -> None:
    with csv_of("a,b,timeoutSeconds,priority\nx,y,060,-5\n") as file:
        (item,) = map(json.loads, b"".join(file.pieces()).splitlines())
    assert (item["timeoutSeconds"], item["priority"]) == (60, -5)
