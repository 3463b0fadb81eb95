"""Where this service may connect to: the operator's networks, never by accident our own.

Loopback, link-local, metadata, unspecified, multicast and broadcast addresses are refused unless
an allowed network names them, that is, lies within that very range: `127.0.0.1/32` names
loopback, `0.0.0.0/0` does not. A denied network always wins. If any network is allowed, only
allowed ones are.
"""

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from service.appliance.resolving import resolved

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SPECIAL: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "::1/128",
        "169.254.0.0/16",
        "fe80::/10",
        # Metadata services of cloud providers; the first is link-local as well, and has to be
        # named by itself.
        "169.254.169.254/32",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        # IPv6 that leads to an IPv4 address which it does not tell (local NAT64, Teredo), or that
        # nobody uses any more (IPv4-compatible).
        "64:ff9b:1::/48",
        "2001::/32",
        "::/96",
        "0.0.0.0/8",
        "::/128",
        "224.0.0.0/4",
        "ff00::/8",
        "255.255.255.255/32",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


class EgressForbidden(OSError):
    """The policy forbids the address. An OSError, like all that keeps from connecting."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks or single addresses, separated by commas or spaces. Raises ValueError."""
    return tuple([ip_network(word) for word in text.replace(",", " ").split()])


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Which addresses may be called. The default: all but the special ones."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()

    def permits(self, address: Address | str) -> bool:
        """Whether a connection to `address` may be opened.

        IPv4 addresses wrapped into IPv6 (mapped, NAT64, 6to4) count as what they lead to, and as
        what they are. Raises ValueError when a text is no address.
        """
        given = ip_address(address) if isinstance(address, str) else address
        return all(self._permits(each) for each in _meanings(given))

    def objection_to(self, host: str) -> str | None:
        """Why `host` may not be called, if it is the literal of a forbidden address; names pass,
        for they are judged by what they resolve to."""
        try:
            address = ip_address(host.strip("[]"))
        except ValueError:
            return None
        return None if self.permits(address) else _objection(host, (str(address),))

    def _permits(self, address: Address) -> bool:
        if any(address in network for network in self.deny):
            return False
        allowed_by = [network for network in self.allow if address in network]
        if self.allow and not allowed_by:
            return False
        return all(
            any(_lies_within(network, special) for network in allowed_by)
            for special in SPECIAL
            if address in special
        )


async def addresses_of(host: str, policy: EgressPolicy) -> tuple[str, ...]:
    """The permitted addresses of a name or literal, in the resolver's order.

    To be connected to as they are, so that a name that changes its mind between check and use
    gains nothing. Raises OSError, EgressForbidden among them, and UnicodeError for what can be no
    name.
    """
    found = await resolved(host)
    permitted = tuple([address for address in found if policy.permits(address)])
    if found and not permitted:
        raise EgressForbidden(_objection(host, found))
    return permitted


def _objection(host: str, addresses: tuple[str, ...]) -> str:
    return (
        f"'{host}' leads to {', '.join(addresses)}, which this service may not call; see "
        "SITEPAIR_EGRESS_ALLOW and SITEPAIR_EGRESS_DENY"
    )


def _meanings(address: Address) -> tuple[Address, ...]:
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address, address.sixtofour)
    if address in _NAT64:
        return (address, IPv4Address(int(address) & 0xFFFFFFFF))
    return (IPv6Address(int(address)),)  # without its scope


def _lies_within(network: Network, special: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(special, IPv4Network) and network.subnet_of(special)
    return isinstance(special, IPv6Network) and network.subnet_of(special)
