"""Whom we believe to be the appliance: a pinned certificate, or one that a CA vouches for."""

import ssl
from dataclasses import dataclass
from functools import cache

from service.domain.thumbprint import Thumbprint, thumbprint_of


class PinMismatch(OSError):
    """The other side presents another certificate than the pinned one."""

    def __init__(self, expected: Thumbprint, presented: Thumbprint) -> None:
        super().__init__(f"{presented} instead of {expected}")
        self.expected = expected
        self.presented = presented


@dataclass(frozen=True, slots=True)
class Trust:
    """What verifies an appliance: the handshake in `context`, and `pin` if there is one."""

    context: ssl.SSLContext
    pin: Thumbprint | None = None

    def check(self, connection: ssl.SSLObject) -> None:
        """To be called before anything is sent over a new connection. Raises PinMismatch."""
        if self.pin is not None:
            presented = thumbprint_of(leaf_certificate(connection))
            if presented != self.pin:
                raise PinMismatch(self.pin, presented)


def trust_of(thumbprint: Thumbprint | None, ca: ssl.SSLContext | None = None) -> Trust:
    """What verifies an appliance: its registered thumbprint, without one the CAs of `ca`,
    the system's if that is None.

    With a pin neither CA nor host name matter, as with H4's own pins (h4-api 6). Raises ValueError
    when `ca` would let everybody pass.
    """
    if thumbprint is not None:
        return Trust(unverified(), thumbprint)
    ca = ca or system_ca()
    if ca.verify_mode is not ssl.CERT_REQUIRED or not ca.check_hostname:
        raise ValueError("the TLS context must verify both certificate and host name")
    return Trust(ca)


@cache
def system_ca() -> ssl.SSLContext:
    """A context that trusts the system's CAs. Reads files, when it is wanted first."""
    return ssl.create_default_context()


@cache
def unverified() -> ssl.SSLContext:
    """Lets everybody pass. Nothing may be sent until the certificate was compared with a pin."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def leaf_certificate(connection: ssl.SSLObject) -> bytes:
    """The certificate that the other side of a TLS connection presented, as DER."""
    return connection.getpeercert(binary_form=True) or b""
