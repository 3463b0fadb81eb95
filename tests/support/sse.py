"""Reads server-sent events as the standard says (WHATWG HTML 9.2), strictly. Shares no code with
the service."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp

_FIELDS = frozenset({"id", "event", "data", "retry"})


class NotAnEventStream(AssertionError):
    """Bytes that a browser would not take as they were meant."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands between two empty lines: a message, or only comments or a retry time."""

    fields: dict[str, str] = field(default_factory=dict)
    comments: tuple[str, ...] = ()

    @property
    def is_message(self) -> bool:
        """Whether a browser would dispatch it."""
        return "data" in self.fields


def frame_of(lines: list[str]) -> Frame:
    """The frame that these lines make. Raises NotAnEventStream."""
    fields: dict[str, str] = {}
    comments: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        if name == "":
            comments.append(value.removeprefix(" "))
        elif name not in _FIELDS or name in fields:
            raise NotAnEventStream(line)
        else:
            fields[name] = value.removeprefix(" ")
    if "data" in fields and fields.keys() != {"id", "event", "data"}:
        raise NotAnEventStream(f"{sorted(fields)} is not a whole message")
    return Frame(fields, tuple(comments))


def frames_of(body: bytes) -> list[Frame]:
    """All the frames of a stream that is over. Raises NotAnEventStream."""
    text = body.decode("utf-8")
    if text and not text.endswith("\n\n"):
        raise NotAnEventStream(f"cut off in the middle: {text[-100:]!r}")
    return [frame_of(part.split("\n")) for part in text.split("\n\n") if part]


async def frames(response: aiohttp.ClientResponse) -> AsyncIterator[Frame]:
    """The frames of a stream, as they come, until it ends."""
    lines: list[str] = []
    async for line in response.content:
        text = line.decode("utf-8").removesuffix("\n")
        if text:
            lines.append(text)
        elif lines:
            yield frame_of(lines)
            lines = []
    if lines:
        raise NotAnEventStream(f"cut off in the middle: {lines!r}")
