"""Writes requests to one appliance as bytes. Pure."""

import re
from collections.abc import Mapping

from yarl import URL

from service.appliance.exchange import Request

_REQUEST_LINE = re.compile(r"[A-Z]+ /[\x21-\x7e]* HTTP/1\.1")
_HEADER_LINE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*")


class RequestWriter:
    """What stands at the head of every request: whom it goes to, and who sends it."""

    def __init__(self, url: URL) -> None:
        """`url` is where the appliance is managed; paths of requests are appended to it."""
        self._base = url.raw_path.rstrip("/")
        self._lines = (
            f"Host: {url.host_port_subcomponent}",
            "User-Agent: sitepair",
            "Accept-Encoding: identity",  # Who says nothing may be answered in any coding.
        )

    def write(self, request: Request, headers: Mapping[str, str]) -> bytes:
        """The whole request. Raises ValueError for what would not stay within its line."""
        body = request.body or b""
        target = self._base + request.path
        if request.query:
            target = URL(target, encoded=True).with_query(request.query).raw_path_qs
        first = f"{request.method} {target} HTTP/1.1"
        if _REQUEST_LINE.fullmatch(first) is None:
            raise ValueError(f"not a request line: {first!r}")
        lines = [first, *self._lines]
        for name, value in headers.items():
            line = f"{name}: {value}"
            if _HEADER_LINE.fullmatch(line) is None:
                raise ValueError(f"the header {name!r} has characters that no header may have")
            lines.append(line)
        if body or request.method != "GET":
            lines.append(f"Content-Length: {len(body)}")
        lines.append("\r\n")
        return "\r\n".join(lines).encode("latin-1") + body
