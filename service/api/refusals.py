"""What this layer refuses by itself; `problems` knows what that means in HTTP::

RequestError (domain)
|-- InvalidRequest          parameters or body: `faults` has all that is wrong
|   `-- UnknownAppliances   of the body
|-- HeadTooLong             it is HTTP, but no more of it is read
|-- MalformedBody           it cannot be read as JSON
|-- BodyTooLarge, BodyTooSlow
|-- UnsupportedMediaType, UnsupportedEncoding
|-- InvalidOperationId
|-- NotAuthenticated
|-- UnknownPath
|-- ApplianceGone           a pairing cannot be tried again without its appliances
|-- NoRoom                  the service, not the request: it may be asked again
`-- NotReady                the service, too: asked by a prober
"""

from collections.abc import Sequence

from service.api.faults import MOST, Fault, more
from service.domain.errors import RequestError, UnknownAppliance
from service.domain.ids import ApplianceName


class InvalidRequest(RequestError):
    """The request was read, and `faults` are all that is wrong with it, of very many `MOST`."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        if len(faults) > MOST:
            faults = [*faults[:MOST], more()]
        many = len(faults)
        what = "1 thing is" if many == 1 else f"{many} things are"
        super().__init__(f"{what} wrong with the request; see errors.")
        self.faults = tuple(faults)

    @property
    def is_about_body(self) -> bool:
        """Whether any fault lies in the body."""
        return any(fault.pointer is not None for fault in self.faults)


class UnknownAppliances(InvalidRequest):
    """The body names appliances that are not registered."""


class ApplianceGone(RequestError):
    """A pairing is to be tried again, and an appliance of it is not registered any more."""

    def __init__(self, *names: ApplianceName) -> None:
        super().__init__(str(UnknownAppliance(*names)))


class HeadTooLong(RequestError):
    """What comes before the body is more than is read."""

    def __init__(self, line_bytes: int, headers: int) -> None:
        super().__init__(
            f"The head of the request is too long: path and query may have {line_bytes} bytes, a "
            f"header {line_bytes}, and there may be {headers} headers."
        )


class MalformedBody(RequestError):
    """The body is not JSON in UTF-8."""


class BodyTooLarge(RequestError):
    """The body is larger than this call takes."""

    def __init__(self, limit: int, what: str = "The body") -> None:
        super().__init__(f"{what} may have at most {limit} bytes.")


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"The body did not arrive within {timeout_s:.0f} s.")


class UnsupportedMediaType(RequestError):
    """The body is of a kind that this call does not take."""

    def __init__(self, *taken: str) -> None:
        kinds = " or ".join(taken)
        super().__init__(f"Send {kinds} in UTF-8, and say so in Content-Type.")


class UnsupportedEncoding(RequestError):
    """The body is compressed."""

    def __init__(self) -> None:
        super().__init__(
            "Send the body without Content-Encoding, and with no Transfer-Encoding but chunked."
        )


class InvalidOperationId(RequestError):
    """The operationID header cannot travel on."""

    def __init__(self) -> None:
        super().__init__(
            "The operationID header must come once, with 1 to 64 characters "
            "out of A-Z, a-z, 0-9, '.', '_', ':' and '-'."
        )


class NotAuthenticated(RequestError):
    """No token, or not the right one: the caller is not told which."""

    def __init__(self) -> None:
        super().__init__("Send the service's token as 'Authorization: Bearer ...'.")


class UnknownPath(RequestError):
    """There is nothing here."""

    def __init__(self) -> None:
        super().__init__("There is no such path; /openapi.yaml lists all paths.")


class NoRoom(RequestError):
    """The body cannot be kept while it arrives."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The service has no room for the body: {why}. Nothing was accepted; send it again."
        )


class NotReady(RequestError):
    """The service cannot serve requests now; the text says why."""
