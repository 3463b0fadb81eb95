"""The URLs under which an appliance may be registered."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


def url_fault(text: str) -> str | None:
    """Why `text` is no `https://HOST[:PORT][/]`; None when it is. Never repeats the text."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return "must be printable ASCII without spaces and backslashes; write IDNs in punycode"
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return "must be https://HOST[:PORT], IPv6 addresses in brackets"
    if not text.startswith("https://"):
        return "must begin with https://"
    if "@" in parts.netloc:
        return "must not carry a user or password; they belong into credentials"
    return _surplus(text, parts) or _host_fault(host or "", parts.netloc) or _port_fault(parts)


def host_of(url: str) -> str:
    """The host of a URL without faults; an IPv6 address without its brackets."""
    return urlsplit(url).hostname or ""


def _surplus(text: str, parts: SplitResult) -> str | None:
    if "?" in text:
        return "must not have a query"
    if "#" in text:
        return "must not have a fragment"
    if parts.path not in {"", "/"}:
        return "must not have a path; a slash at the end is fine"
    return None


def _host_fault(host: str, netloc: str) -> str | None:
    if not host:
        return "must name a host"
    if netloc.startswith("["):
        is_all = netloc.partition("]")[2][:1] in {"", ":"}  # Python itself looks from 3.12 on.
        return (
            None if is_all and _is_address(host, IPv6Address) else "must have a valid IPv6 address"
        )
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Resolvers also read 2130706433 and 0x7f.1 as addresses; one spelling is enough.
        return None if _is_address(host, IPv4Address) else "must have a valid IPv4 address"
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "must have a valid host name"
    return None


def _is_address(host: str, kind: type[IPv4Address] | type[IPv6Address]) -> bool:
    try:
        kind(host)
    except AddressValueError:
        return False
    return "%" not in host


def _port_fault(parts: SplitResult) -> str | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or parts.netloc.endswith(":"):
        return "must have a port between 1 and 65535, or none"
    return None
