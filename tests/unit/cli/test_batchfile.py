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
