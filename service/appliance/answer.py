"""Reads the bytes of answers, by llhttp. Pure: bytes in, an outcome out."""

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from service.appliance.exchange import Answer, Failure, FailureKind, Outcome

MAX_HEAD = 16 * 1024
MAX_HEADERS = 100


class _Enough(Exception):
    """Ends the parsing: the outcome is known, or more came than was asked for."""


class AnswerReader:
    """Reads one answer at a time, which `begin` announces. Interim ones are skipped.

    A bad status stays an answer when its body cannot be read: the status alone says what happened.
    Memory is bounded: `MAX_HEAD` for the head, and as much on top of `max_body` for the framing.
    The body grows in one buffer, for many tiny pieces would take more memory than they hold.
    """

    is_keepable: bool
    """Whether the answer ended where another may begin. False until then."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._parser = HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """A request is sent: what comes from now on is the answer to it."""
        self.is_keepable = False
        self._outcome: Outcome | None = None
        self._received = 0
        self._status = 0
        self._has_head = False
        self._lines: list[tuple[bytes, bytes]] = []
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def feed(self, data: bytes) -> Outcome | None:
        """What came of the call, as soon as that is known."""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.is_keepable = False
            if self._outcome is None:
                self._outcome = self.give_up(Failure(FailureKind.GARBLED, str(error)[:300]))
        if self._outcome is None:
            self._check_size()
        # Handed over, not kept: connections that rest are many, and lists of peers long.
        outcome, self._outcome = self._outcome, None
        return outcome

    def end(self) -> Outcome:
        """The connection ended, which some answers end with."""
        has_length = "content-length" in self._headers or "transfer-encoding" in self._headers
        if self._has_head and not has_length:
            return self._answer()
        return self.give_up(Failure(FailureKind.CUT, "closed by the other side"))

    def give_up(self, failure: Failure) -> Outcome:
        """No more can be read, because of `failure`."""
        if self._has_head and not 200 <= self._status < 300:
            return Answer(self._status, self._headers, b"")
        return failure

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self._outcome is not None:
            raise _Enough

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser; for trailers too, which nobody wants."""
        if self._has_head:
            return
        if len(self._lines) == MAX_HEADERS:
            self._stop(FailureKind.GARBLED, f"more than {MAX_HEADERS} headers")
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        """Called by the parser, for interim answers too."""
        self._status = status = self._parser.get_status_code()
        if status < 100 or status == 101:
            self._stop(FailureKind.GARBLED, f"status {status}")
        if status < 200:
            self._lines.clear()
            return
        if sum([len(name) + len(value) for name, value in self._lines]) > MAX_HEAD:
            self._stop(FailureKind.GARBLED, f"headers of more than {MAX_HEAD} bytes")
        self._headers = headers = _joined(self._lines)
        self._has_head = True
        transfer = headers.get("transfer-encoding", "chunked").lower()
        if transfer != "chunked":
            self._stop(FailureKind.GARBLED, f"Transfer-Encoding: {transfer[:100]}")
        content = headers.get("content-encoding", "").lower()
        if content not in {"", "identity"}:
            self._stop(FailureKind.ENCODED, content[:100])

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if len(self._body) + len(body) > self._max_body:
            self._stop(FailureKind.TOO_LARGE, f"more than {self._max_body} bytes")
        self._body += body

    def on_message_complete(self) -> None:
        """Called by the parser, for interim answers too."""
        if self._has_head:
            self.is_keepable = self._parser.should_keep_alive()
            self._outcome = self._answer()

    def _answer(self) -> Answer:
        body, self._body = bytes(self._body), bytearray()
        return Answer(self._status, self._headers, body)

    def _check_size(self) -> None:
        """What the parser holds back and tells nobody of is bounded as well."""
        if not self._has_head and self._received > MAX_HEAD:
            failure = Failure(FailureKind.GARBLED, f"a head of more than {MAX_HEAD} bytes")
        elif self._received > self._max_body + MAX_HEAD:
            failure = Failure(FailureKind.TOO_LARGE, f"more than {self._max_body} bytes")
        else:
            return
        self._outcome = self.give_up(failure)

    def _stop(self, kind: FailureKind, detail: str) -> None:
        self._outcome = self.give_up(Failure(kind, detail))
        raise _Enough


def _joined(lines: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, raw in lines:
        key, value = name.decode("latin-1").lower(), raw.strip().decode("latin-1")
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
