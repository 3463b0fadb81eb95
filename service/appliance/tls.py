"""Whom we believe to be the appliance: a pinned certificate, or one that a CA vouches for."""

import asyncio
import ssl

from aiohttp import Fingerprint

from service.domain.thumbprint import Thumbprint, digest_of

Trust = Fingerprint | ssl.SSLContext


def trust_of(thumbprint: Thumbprint | None, ca: ssl.SSLContext) -> Trust:
    """What verifies an appliance: its registered thumbprint, without one the CAs of `ca`.

    Make it once per appliance: aiohttp reuses no connection across two of these objects. With a
    pin neither CA nor host name matter, as with H4's own pins (h4-api 6). Raises ValueError when
    `ca` would let everybody pass.
    """
    if thumbprint is not None:
        return Fingerprint(digest_of(thumbprint))
    if ca.verify_mode is not ssl.CERT_REQUIRED or not ca.check_hostname:
        raise ValueError("the TLS context must verify both certificate and host name")
    return ca


def system_ca() -> ssl.SSLContext:
    """A context that trusts the system's CAs. Reads files: make it before the loop runs."""
    return ssl.create_default_context()


def unverified() -> ssl.SSLContext:
    """For reading which certificate is presented. Nothing may be sent over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def presented_certificate(
    address: str, port: int, server_name: str, context: ssl.SSLContext
) -> bytes:
    """Shake hands, and give the leaf certificate as DER. Raises OSError, ssl.SSLError among
    them; the caller sets the deadline."""
    _, writer = await asyncio.open_connection(
        address, port, ssl=context, server_hostname=server_name
    )
    try:
        certificate: bytes | None = writer.get_extra_info("ssl_object").getpeercert(True)  # noqa: FBT003
    finally:
        writer.transport.abort()
    return certificate or b""
