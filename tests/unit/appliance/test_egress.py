"""Where the service may connect to."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.appliance.egress import (
    SPECIAL,
    EgressForbidden,
    EgressPolicy,
    addresses_of,
    parse_networks,
)

OPEN = EgressPolicy()


def policy(allow: str = "", deny: str = "") -> EgressPolicy:
    """A policy as an operator writes it."""
    return EgressPolicy(parse_networks(allow), parse_networks(deny))


@pytest.mark.parametrize(
    "address", ["10.71.248.18", "192.0.2.7", "8.8.8.8", "2001:db8::1", "fd00::1"]
)
def test_ordinary_addresses_are_open_by_default(address: str) -> None:
    assert OPEN.permits(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "::1",
        "169.254.1.1",
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "192.0.0.192",
        "::7f00:1",
        "64:ff9b:1::7f00:1",
        "2001:0:7f00:1::1",
    ],
)
def test_special_addresses_are_closed_by_default(address: str) -> None:
    assert not OPEN.permits(address)


@pytest.mark.parametrize("allow", ["0.0.0.0/0", "0.0.0.0/0, ::/0", "126.0.0.0/7"])
def test_a_network_around_loopback_does_not_name_it(allow: str) -> None:
    assert not policy(allow).permits("127.0.0.1")


@pytest.mark.parametrize("allow", ["127.0.0.0/8", "127.0.0.1", "127.0.0.1/32 10.0.0.0/8"])
def test_a_network_within_loopback_names_it(allow: str) -> None:
    assert policy(allow).permits("127.0.0.1")
    assert policy(allow).permits("::ffff:127.0.0.1")


def test_naming_one_address_names_no_other() -> None:
    assert not policy("127.0.0.1").permits("127.0.0.2")


def test_the_metadata_address_has_to_be_named_by_itself() -> None:
    assert not policy("169.254.0.0/16").permits("169.254.169.254")
    assert policy("169.254.0.0/16").permits("169.254.7.7")
    assert policy("169.254.169.254").permits("169.254.169.254")


def test_what_is_allowed_excludes_the_rest() -> None:
    assert policy("10.0.0.0/8").permits("10.1.2.3")
    assert not policy("10.0.0.0/8").permits("192.0.2.7")
    assert not policy("10.0.0.0/8").permits("2001:db8::1")


def test_an_address_behind_nat64_is_allowed_with_the_one_it_leads_to() -> None:
    assert policy("10.0.0.0/8 64:ff9b::/96").permits("64:ff9b::a01:203")
    assert not policy("10.0.0.0/8 64:ff9b::/96").permits("64:ff9b::b01:203")
    assert not policy("10.0.0.0/8").permits("64:ff9b::a01:203")


def test_what_is_denied_stays_denied() -> None:
    both = policy("10.0.0.0/8 127.0.0.1", "10.9.0.0/16 127.0.0.0/8")
    assert both.permits("10.1.2.3")
    assert not both.permits("10.9.2.3")
    assert not both.permits("::ffff:10.9.2.3")
    assert not both.permits("127.0.0.1")


def test_a_denied_network_alone_leaves_the_rest_open() -> None:
    assert policy(deny="10.0.0.0/8").permits("192.0.2.7")
    assert not policy(deny="10.0.0.0/8").permits("10.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "fe80::1%1", "::ffff:7f00:1"])
async def test_a_literal_of_a_forbidden_address_is_refused(host: str) -> None:
    assert "SITEPAIR_EGRESS_ALLOW" in (OPEN.objection_to(host) or "")
    with pytest.raises(EgressForbidden, match="SITEPAIR_EGRESS_ALLOW"):
        await addresses_of(host, OPEN)


@pytest.mark.parametrize("host", ["localhost", "appliance.example.test", "10.0.0.1", "127.1"])
def test_names_pass_as_literals_for_they_are_judged_by_what_they_resolve_to(host: str) -> None:
    assert OPEN.objection_to(host) is None


async def test_a_name_that_leads_to_a_forbidden_address_is_refused() -> None:
    with pytest.raises(EgressForbidden, match="localhost"):
        await addresses_of("localhost", OPEN)


async def test_of_a_names_addresses_the_permitted_ones_remain() -> None:
    assert await addresses_of("localhost", policy("127.0.0.0/8")) == ("127.0.0.1",)


def test_networks_are_separated_by_commas_or_spaces() -> None:
    networks = parse_networks(" 10.0.0.0/8,127.0.0.1  ::1 ")
    assert [str(network) for network in networks] == ["10.0.0.0/8", "127.0.0.1/32", "::1/128"]
    assert parse_networks("") == ()


@pytest.mark.parametrize("text", ["10.0.0.1/8", "everything", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"network|host bits|IPv4"):
        parse_networks(text)


@given(st.ip_addresses(v=4))
def test_an_address_means_the_same_in_ipv6_clothes(address: object) -> None:
    dressed = ip_address(f"::ffff:{address}")
    for each in (OPEN, policy("10.0.0.0/8 127.0.0.0/8"), policy(deny="128.0.0.0/1")):
        assert each.permits(str(address)) == each.permits(dressed)


@given(st.sampled_from(SPECIAL), st.data())
def test_no_special_address_is_open_by_default(special: object, data: st.DataObject) -> None:
    address = data.draw(st.ip_addresses(network=str(special)))
    assert not OPEN.permits(address)
    assert not policy("0.0.0.0/0 ::/0").permits(address)
