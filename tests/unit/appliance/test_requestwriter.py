"""Requests as bytes."""

import pytest
from yarl import URL

from service.appliance.exchange import Request
from service.appliance.requestwriter import RequestWriter


def lines(request: Request, url: str = "https://a.example.test", **headers: str) -> list[str]:
    """The lines of the head, then the body."""
    head, _, body = (
        RequestWriter(URL(url)).write(request, headers).decode("latin-1").partition("\r\n\r\n")
    )
    return [*head.split("\r\n"), body]


def test_a_request_says_where_to_and_how_long_and_what_it_is_told() -> None:
    request = Request("POST", "/sites", body=b"{}")
    assert lines(request, Accept="x/y") == [
        "POST /sites HTTP/1.1",
        "Host: a.example.test",
        "User-Agent: sitepair",
        "Accept-Encoding: identity",
        "Accept: x/y",
        "Content-Length: 2",
        "{}",
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_request_without_a_body_says_so(method: str) -> None:
    assert lines(Request(method, "/x"))[-2:] == ["Content-Length: 0", ""]


def test_a_look_has_no_body_to_tell_of() -> None:
    assert lines(Request("GET", "/x"))[-2:] == ["Accept-Encoding: identity", ""]


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://a.test/", "a.test", "/x"),
        ("https://a.test:443", "a.test", "/x"),
        ("https://a.test:8043", "a.test:8043", "/x"),
        ("https://10.0.0.1:8043", "10.0.0.1:8043", "/x"),
        ("https://[2001:db8::1]:8043/", "[2001:db8::1]:8043", "/x"),
        ("https://[2001:db8::1]", "[2001:db8::1]", "/x"),
        ("https://a.test/base/path/", "a.test", "/base/path/x"),
        ("https://b\u00fccher.test", "xn--bcher-kva.test", "/x"),
    ],
)
def test_the_place_is_spelt_as_http_spells_it(url: str, host: str, target: str) -> None:
    first, second, *_ = lines(Request("GET", "/x"), url)
    assert (first, second) == (f"GET {target} HTTP/1.1", f"Host: {host}")


def test_a_path_is_taken_as_it_is_and_a_query_is_encoded() -> None:
    query = (("a", "b c&d+"), ("a", "\u00e9/?:-5"))
    first = lines(Request("GET", "/sites/..%2F%3F%23x", query))[0]
    assert first == "GET /sites/..%2F%3F%23x?a=b+c%26d%2B&a=%C3%A9/?:-5 HTTP/1.1"


@pytest.mark.parametrize(
    "value", ["a\r\nx: y", "a\rb", "a\nb", "a\x00b", "a\x7fb", "\u20ac", "\u0100"]
)
def test_a_header_that_would_break_out_of_its_line_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="the header 'operationID'") as caught:
        lines(Request("GET", "/x"), operationID=value)
    assert value not in str(caught.value)


@pytest.mark.parametrize("name", ["a b", "a:", "", "a\r\nb", "\u00e9"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="header"):
        RequestWriter(URL("https://a.test")).write(Request("GET", "/x"), {name: "x"})


def test_a_header_may_hold_any_byte_that_http_lets_it_hold() -> None:
    value = "\t" + "".join(map(chr, [*range(0x20, 0x7F), *range(0x80, 0x100)]))
    assert f"x: {value}" in lines(Request("GET", "/x"), x=value)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/a b"),
        ("GET", "/a HTTP/1.1\r\nx: y\r\n\r\n"),
        ("GET", "/\u00e9"),
        ("GET", "x"),
        ("GET /", "/x"),
        ("", "/x"),
    ],
)
def test_a_target_that_would_break_out_of_its_line_is_refused(method: str, path: str) -> None:
    with pytest.raises(ValueError, match="request line"):
        lines(Request(method, path))
