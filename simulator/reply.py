"""What a handler answers, before it is encoded."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.wire import ApiError


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and a body: None for no body, bytes for one that is ready, else to be encoded."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None


class Refused(Exception):
    """The call is answered with an ApiError."""

    def __init__(
        self, status: int, error: ApiError, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error.msg)
        self.status = status
        self.error = error
        self.headers = headers or {}
