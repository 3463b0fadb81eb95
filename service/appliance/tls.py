"""Whom we believe to be the appliance: a pinned certificate, or one that a CA vouches for."""

import asyncio
import ssl
from functools import cache

from aiohttp import Fingerprint

from service.domain.thumbprint import Thumbprint, digest_of

Trust = Fingerprint | ssl.SSLContext


def trust_of(thumbprint: Thumbprint | None, ca: ssl.SSLContext | None = None) -> Trust:
    """What verifies an appliance: its registered thumbprint, without one the CAs of `ca`,
    the system's if that is None.

    Make it once per appliance: aiohttp reuses no connection across two of these objects. With a
    pin neither CA nor host name matter, as with H4's own pins (h4-api 6). Raises ValueError when
    `ca` would let everybody pass.
    """
    if thumbprint is not None:
        return Fingerprint(digest_of(thumbprint))
    ca = ca or system_ca()
    if ca.verify_mode is not ssl.CERT_REQUIRED or not ca.check_hostname:
        raise ValueError("the TLS context must verify both certificate and host name")
    return ca


@cache
def system_ca() -> ssl.SSLContext:
    """A context that trusts the system's CAs. Reads files, when it is wanted first."""
    return ssl.create_default_context()


def unverified() -> ssl.SSLContext:
    """For reading which certificate is presented. Nothing may be sent over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def leaf_certificate(writer: asyncio.StreamWriter) -> bytes:
    """The certificate that the other side of a TLS connection presented, as DER."""
    connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
    return connection.getpeercert(binary_form=True) or b""
