"""Thumbprints: the SHA-256 of a leaf certificate, written as H4 writes it (h4-api 6)."""

import hashlib
import re
from typing import NewType

Thumbprint = NewType("Thumbprint", str)

_FORM = re.compile(r"SHA-256(:[0-9A-F]{2}){32}")


def parse_thumbprint(text: str) -> Thumbprint:
    """`text` as a thumbprint, upper case. Raises ValueError when it is not one."""
    candidate = text.strip().upper()
    if _FORM.fullmatch(candidate) is None:
        raise ValueError("expected SHA-256: and 32 pairs of hexadecimal digits joined by colons")
    return Thumbprint(candidate)


def thumbprint_of(der: bytes) -> Thumbprint:
    """The thumbprint of a certificate given as DER."""
    pairs = hashlib.sha256(der).hexdigest().upper()
    return Thumbprint("SHA-256:" + ":".join(pairs[i : i + 2] for i in range(0, 64, 2)))


def same_thumbprint(one: str | None, other: str | None) -> bool:
    """Whether both name the same certificate. The case an appliance answers in is unknown."""
    return one is not None and other is not None and one.upper() == other.upper()
