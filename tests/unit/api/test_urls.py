"""Under which URLs an appliance may be registered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.urls import host_of, url_fault
from service.domain.appliance import normalized_url


@pytest.mark.parametrize(
    "url",
    [
        "https://vcda.example.com",
        "https://vcda.example.com/",
        "https://vcda.example.com:8048/",
        "https://VCDA_1.example.com:443",
        "https://10.0.0.7:8441",
        "https://[2001:db8::1]",
        "https://[2001:db8::1]:8048/",
        "https://xn--bcher-kva.example",
        "https://localhost:65535",
    ],
)
def test_a_host_and_perhaps_a_port_are_fine(url: str) -> None:
    assert url_fault(url) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://vcda.example.com", "begin with https://"),
        ("vcda.example.com", "begin with https://"),
        ("HTTPS://vcda.example.com", "begin with https://"),
        ("https:///", "name a host"),
        ("https://root:secret@vcda.example.com", "user or password"),
        ("https://@vcda.example.com", "user or password"),
        ("https://vcda.example.com/api", "path"),
        ("https://vcda.example.com//", "path"),
        ("https://vcda.example.com/?", "query"),
        ("https://vcda.example.com?a=b", "query"),
        ("https://vcda.example.com#", "fragment"),
        ("https://vcda.example.com:", "port"),
        ("https://vcda.example.com:0", "port"),
        ("https://vcda.example.com:65536", "port"),
        ("https://vcda.example.com:https", "port"),
        ("https://vcda.example.com:-1", "port"),
        ("https://vcda .example.com", "ASCII"),
        ("https://vcda.example.com\n", "ASCII"),
        ("https://vcda.example.com\\@evil", "ASCII"),
        ("https://bücher.example", "punycode"),
        ("https://vcda..example.com", "host name"),
        ("https://vcda.example.com.", "host name"),
        ("https://-vcda.example.com", "host name"),
        ("https://" + "a" * 64 + ".example.com", "host name"),
        ("https://" + "a." * 127 + "com", "host name"),
        ("https://[::g]", "IPv6"),
        ("https://[2001:db8::1]a", "IPv6"),
        ("https://[2001:db8::1].example.com:8048", "IPv6"),
        ("https://[fe80::1%25eth0]", "IPv6"),
        ("https://10.0.0.256", "IPv4"),
        ("https://2130706433", "IPv4"),
        ("https://0x7f.1", "IPv4"),
        ("https://127.1", "IPv4"),
    ],
)
def test_anything_else_is_refused_with_the_reason(url: str, words: str) -> None:
    fault = url_fault(url)

    assert fault is not None
    assert words in fault
    assert "secret" not in fault


@given(st.text() | st.text().map(lambda text: f"https://{text}"))
def test_whatever_has_no_fault_can_be_normalized_and_called(url: str) -> None:
    if url_fault(url) is None:
        assert normalized_url(url).startswith("https://")
        assert host_of(url)
