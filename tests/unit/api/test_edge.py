"""What holds for every call: who is let in, the operationID, paths, methods, and media types."""

import asyncio
import gc
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from service.api import bodies, uploads
from tests.unit.api.asking import SECRET, spec_body
from tests.unit.api.conftest import TOKEN, Served

JSON = {"Content-Type": "application/json"}


async def say(served: Served, request: bytes) -> tuple[bytes, dict[str, str], bytes]:
    """The status line, headers and body that the service answers to these bytes."""
    reader, writer = await asyncio.open_connection(served.host, served.port)
    try:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        return status.encode(), headers, body
    finally:
        writer.close()
        await writer.wait_closed()


def lines_of(log: io.StringIO, event: str) -> list[Any]:
    """The lines that were logged of one kind."""
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_token(shared: Served, path: str) -> None:
    answer = await shared.stranger.call("GET", path)

    assert (answer.status, answer.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/appliances"),
        ("PUT", "/v1/appliances/prague"),
        ("POST", "/v1/pairings"),
        ("GET", "/openapi.yaml"),
        ("GET", "/nowhere"),
        ("PATCH", "/v1/pairings"),
    ],
)
async def test_everything_else_needs_the_token_and_does_not_say_what_was_wrong(
    shared: Served, method: str, path: str
) -> None:
    known = {"operationID": "same"}
    missing = await shared.stranger.call(method, path, headers=known)
    wrong = await shared.stranger.call(
        method, path, headers={**known, "Authorization": "Bearer wrong"}
    )

    assert missing.status == wrong.status == 401
    assert missing.headers["WWW-Authenticate"] == "Bearer"
    assert missing.body == wrong.body
    assert {**missing.headers, "Date": ""} == {**wrong.headers, "Date": ""}


async def test_an_unready_service_says_why(served: Served) -> None:
    served.readiness.objection = "the schema is behind"

    answer = await served.stranger.call("GET", "/readyz")

    assert (answer.status, answer.json["code"]) == (503, "NotReady")
    assert answer.json["detail"] == "the schema is behind"


async def test_the_contract_is_served_as_it_stands(shared: Served) -> None:
    answer = await shared.client.call("GET", "/openapi.yaml")

    assert answer.body == shared.contract.read_bytes()


async def test_the_callers_operation_id_comes_back(shared: Served) -> None:
    answer = await shared.client.call("GET", "/healthz", headers={"operationID": "A.b_c:d-9"})

    assert answer.headers["operationID"] == "A.b_c:d-9"


async def test_without_an_operation_id_each_request_gets_its_own(shared: Served) -> None:
    answers = [await shared.client.call("GET", "/healthz") for _ in range(3)]

    assert len({answer.headers["operationID"] for answer in answers}) == 3


@pytest.mark.parametrize("value", ["", "x" * 65, "a b", "a/b", "Ünïcode", "<script>", "a,b"])
@pytest.mark.parametrize("path", ["/healthz", "/v1/pairings"])
async def test_a_malformed_operation_id_is_refused_and_not_repeated(
    shared: Served, value: str, path: str
) -> None:
    answer = await shared.client.call("GET", path, headers={"operationID": value})

    assert (answer.status, answer.json["code"]) == (400, "InvalidOperationID")
    assert answer.headers["operationID"].startswith("sitepair-")
    assert answer.json["operationID"] == answer.headers["operationID"]


async def test_two_operation_ids_are_none(shared: Served) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\noperationID: a\r\noperationid: b\r\n\r\n"

    status, headers, _ = await say(shared, request)

    assert b"400" in status
    assert headers["operationID"].startswith("sitepair-")


@pytest.mark.parametrize(
    "lines",
    [
        f"operationID: a\r\n evil: {SECRET}",
        f"operationID: a\n\tb{SECRET}",
        f"operationID: a\x00{SECRET}",
        f"operationID: a\r{SECRET}",
        f"Authorization: Bearer {SECRET}\x01",
        f"{SECRET} : x",
        f"Content-Length: {SECRET}",
        f"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nX: {SECRET}",
    ],
)
async def test_bytes_that_are_no_http_get_a_problem_and_are_repeated_nowhere(
    shared: Served, log: io.StringIO, lines: str
) -> None:
    request = f"GET /healthz HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode()

    status, headers, body = await say(shared, request)

    assert b" 400 " in status
    assert headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["code"] in {"MalformedRequest", "InvalidOperationID"}
    assert "too long" not in json.loads(body)["detail"]
    assert json.loads(body)["operationID"] == headers["operationID"]
    assert SECRET not in body.decode() + str(headers) + log.getvalue()


async def test_after_bytes_that_are_no_http_the_connection_ends(shared: Served) -> None:
    reader, writer = await asyncio.open_connection(shared.host, shared.port)
    writer.write(b"what is this?\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()

    assert b" 400 " in answer.splitlines()[0]


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        (f"?q={SECRET * 500}", ""),
        ("", f"X: {SECRET * 500}\r\n"),
        ("", f"{'X' * 9000}: {SECRET}\r\n"),
        ("", f"X: {SECRET}\r\n" * 300),
    ],
)
async def test_a_head_that_is_too_long_is_told_so_and_repeated_nowhere(
    shared: Served, log: io.StringIO, query: str, lines: str
) -> None:
    request = f"GET /healthz{query} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()

    status, headers, body = await say(shared, request)

    assert b" 400 " in status
    assert json.loads(body)["code"] == "MalformedRequest"
    assert "too long" in json.loads(body)["detail"]
    assert SECRET not in body.decode() + str(headers) + log.getvalue()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v2/pairings",
        "/v1/pairings/",
        "/v1/appliances/",
        "/v1/appliances/prague/",
        "/v1/appliances/pr%61gue",
        "/v1/appliances/%2e%2e",
        "/v1/appliances/a%2Fb",
        "/v1/appliances/%ff",
        "/v1//appliances",
        "//v1/appliances",
        "/v1/appliances/prague/check/more",
    ],
)
async def test_a_path_that_is_not_in_the_contract_is_not_found(shared: Served, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"

    status, headers, body = await say(shared, request.encode())

    assert b" 404 " in status
    assert headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["code"] == "NotFound"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/appliances", "GET,HEAD"),
        ("DELETE", "/v1/pairings", "GET,HEAD,POST"),
        ("OPTIONS", "/v1/pairings", "GET,HEAD,POST"),
        ("HEAD", "/v1/appliances/prague/check", "POST"),
        ("PATCH", "/v1/appliances/prague", "DELETE,GET,HEAD,PUT"),
        ("TRACE", "/healthz", "GET,HEAD"),
    ],
)
async def test_a_method_that_is_not_in_the_contract_is_refused_with_those_that_are(
    shared: Served, method: str, path: str, allowed: str
) -> None:
    answer = await shared.client.call(method, path)

    assert (answer.status, answer.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/healthz", "/v1/pairings", "/v1/appliances", "/v1/pairings/x"])
async def test_head_is_get_without_the_body(shared: Served, path: str) -> None:
    known = {"operationID": "same"}
    got = await shared.client.call("GET", path, headers=known)
    head = await shared.client.call("HEAD", path, headers=known)

    assert head.body == b""
    assert head.status == got.status
    assert {**head.headers, "Date": ""} == {**got.headers, "Date": ""}


async def test_every_response_tells_browsers_and_caches_to_keep_away(shared: Served) -> None:
    for path in ["/healthz", "/v1/pairings", "/nowhere"]:
        headers = (await shared.client.call("GET", path)).headers

        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Server"] == "sitepair"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "text/plain"}, "UnsupportedMediaType"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "UnsupportedMediaType"),
        ({"Content-Type": "application/problem+json"}, "UnsupportedMediaType"),
        ({"Content-Type": "nonsense"}, "UnsupportedMediaType"),
        ({"Content-Type": "application/json; charset=utf-16"}, "UnsupportedMediaType"),
        ({"Content-Type": "application/json; charset=latin-1"}, "UnsupportedMediaType"),
        ({**JSON, "Content-Encoding": "gzip"}, "UnsupportedEncoding"),
        ({**JSON, "Content-Encoding": "identity, br"}, "UnsupportedEncoding"),
        ({**JSON, "Content-Encoding": "zzz"}, "UnsupportedEncoding"),
    ],
)
async def test_only_plain_json_is_taken(shared: Served, headers: dict[str, str], code: str) -> None:
    body = gzip.compress(json.dumps(spec_body()).encode())

    answer = await shared.client.call("PUT", "/v1/appliances/prague", data=body, headers=headers)

    assert (answer.status, answer.json["code"]) == (415, code)
    assert (await shared.client.call("GET", "/v1/appliances")).json["items"] == []


async def test_a_body_without_a_media_type_is_not_taken(shared: Served) -> None:
    answer = await shared.client.call(
        "POST", "/v1/pairings", data=b"{}", skip_auto_headers=["Content-Type"]
    )

    assert answer.status == 415


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON", 'application/json;charset="UTF-8"; x=y'],
)
async def test_json_may_say_that_it_is_utf_8(served: Served, media_type: str) -> None:
    body = json.dumps(spec_body(description="é"), ensure_ascii=False).encode()

    answer = await served.client.call(
        "PUT", "/v1/appliances/prague", data=body, headers={"Content-Type": media_type}
    )

    assert (answer.status, answer.json["description"]) == (201, "é")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"\x00", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b"[" * 30_000 + b"]" * 30_000, "deeper"),
    ],
)
async def test_a_body_that_cannot_be_read_is_malformed(
    shared: Served, body: bytes, words: str
) -> None:
    answer = await shared.client.call("POST", "/v1/pairings", data=body, headers=JSON)

    assert (answer.status, answer.json["code"]) == (400, "MalformedBody")
    assert words in answer.json["detail"]


async def chunks(size: int) -> AsyncIterator[bytes]:
    """A body that does not say beforehand how large it is."""
    for _ in range(size // 1024):
        yield b" " * 1024


@pytest.mark.parametrize("tells_its_size", [True, False])
async def test_a_body_over_the_limit_is_refused(shared: Served, tells_its_size: bool) -> None:
    size = bodies.LIMIT + 1024
    data = b" " * size if tells_its_size else chunks(size)

    answer = await shared.client.call("POST", "/v1/pairings", data=data, headers=JSON)

    assert (answer.status, answer.json["code"]) == (413, "BodyTooLarge")


async def test_a_body_at_the_limit_is_read(shared: Served) -> None:
    data = b'{"appliances": ["a", "b"]}'.ljust(bodies.LIMIT)

    answer = await shared.client.call("POST", "/v1/pairings", data=data, headers=JSON)

    assert (answer.status, answer.json["code"]) == (422, "UnknownAppliance")


HEAD = (
    f"POST /v1/pairings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    "Content-Type: application/json\r\n"
)


async def test_a_body_that_does_not_arrive_is_not_waited_for(
    shared: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "ARRIVAL_S", 0.05)

    status, _, body = await say(shared, f"{HEAD}Content-Length: 9\r\n\r\n{{".encode())

    assert b" 408 " in status
    assert json.loads(body)["code"] == "BodyTooSlow"


async def test_nor_is_one_that_goes_on_and_on(
    shared: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_TOTAL_S", 0.05)
    head = HEAD.replace("/v1/pairings", "/v1/batches")

    status, _, body = await say(shared, f"{head}Content-Length: 9\r\n\r\n{{".encode())

    assert b" 408 " in status
    assert json.loads(body)["code"] == "BodyTooSlow"


async def test_a_body_of_malformed_chunks_is_refused(shared: Served) -> None:
    request = f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n{SECRET}\r\n".encode()

    status, _, body = await say(shared, request)

    assert b" 400 " in status
    assert SECRET not in body.decode()


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/v1/pairings", "application/json"), ("/v1/batches", "application/x-ndjson")],
)
async def test_a_body_whose_chunks_become_malformed_is_not_waited_for(
    served: Served, log: io.StringIO, path: str, media_type: str
) -> None:
    head = HEAD.replace("/v1/pairings", path).replace("application/json", media_type)
    reader, writer = await asyncio.open_connection(served.host, served.port)
    writer.write(f"{head}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n".encode())
    await reader.readuntil(b"100 Continue\r\n\r\n")  # The handler has begun.
    writer.write(b"2\r\n{}\r\nzz\r\n")

    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.") == 1
    assert b'"MalformedBody"' in answer
    assert (await served_line(served, log, path))["status"] == 400


async def test_who_asks_whether_a_body_is_welcome_hears_that_it_is(
    served: Served, log: io.StringIO
) -> None:
    request = f"{HEAD}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode()

    status, _, _ = await say(served, request)

    assert status == b"HTTP/1.1 100 Continue"
    # Else its line is in the log of the next test.
    assert await served_line(served, log, "/v1/pairings")


@pytest.mark.parametrize("path", ["/v1/pairings", "/v1/batches"])
async def test_who_leaves_in_the_middle_of_a_body_is_no_defect_of_ours(
    served: Served, log: io.StringIO, path: str
) -> None:
    _, writer = await asyncio.open_connection(served.host, served.port)
    head = HEAD.replace("/v1/pairings", path)
    writer.write(f"{head}Content-Length: 9\r\n\r\n{{".encode())
    await writer.drain()
    writer.close()
    assert (await served_line(served, log, path))["status"] == 400
    assert lines_of(log, "request_crashed") == []


async def served_line(served: Served, log: io.StringIO, path: str) -> Any:
    """The line of the request for `path`, once it is over."""
    async with asyncio.timeout(10):
        while True:
            for line in lines_of(log, "request_served"):
                if line["route"] == path:
                    return line
            await served.stranger.call("GET", "/healthz")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"{HEAD}Content-Length: 9\r\n".replace(TOKEN, "wrong"), 401),
        (f"{HEAD}Content-Length: {bodies.LIMIT + 1}\r\n", 413),
        (f"{HEAD}Content-Length: 9\r\n".replace("json", "text"), 415),
        (f"{HEAD}Content-Length: {2**30}\r\n".replace("pairings", "batches"), 413),
        (f"{HEAD}Content-Length: 9\r\n".replace("pairings", "nowhere"), 404),
        (f"{HEAD}Content-Length: 9\r\n".replace("POST", "PATCH"), 405),
    ],
)
async def test_a_body_that_nobody_reads_is_not_welcomed(
    shared: Served, head: str, status: int
) -> None:
    line, headers, body = await say(shared, f"{head}Expect: 100-continue\r\n\r\n".encode())

    assert f" {status} ".encode() in line
    assert headers["Connection"] == "close"  # The next bytes would be taken for the body.
    assert json.loads(body)["operationID"] == headers["operationID"]


async def test_who_holds_back_a_body_that_a_call_does_not_take_is_answered(shared: Served) -> None:
    head = HEAD.replace("POST", "GET")

    line, headers, _ = await say(
        shared, f"{head}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode()
    )

    assert (line, headers["Connection"]) == (b"HTTP/1.1 200 OK", "close")


@pytest.mark.parametrize(
    ("head", "expected", "status"),
    [
        (HEAD, "tea", 422),
        (HEAD.replace("1.1", "1.0"), "100-continue", 422),
        (HEAD.replace("pairings", "nowhere"), "tea", 404),
        (HEAD.replace("pairings", "nowhere").replace(TOKEN, "wrong"), "tea", 401),
    ],
)
async def test_any_other_expectation_is_ignored(
    shared: Served, head: str, expected: str, status: int
) -> None:
    request = f"{head}Content-Length: 2\r\nExpect: {expected}\r\n\r\n{{}}"

    line, headers, _ = await say(shared, request.encode())

    assert f" {status} ".encode() in line
    assert headers["operationID"].startswith("sitepair-")


@pytest.mark.parametrize("path", ["/v1/pairings", "/v1/batches"])
@pytest.mark.parametrize("codings", ["gzip, chunked", "identity, Chunked", "x,chunked"])
async def test_a_body_that_is_more_than_chunked_is_not_taken(
    shared: Served, path: str, codings: str
) -> None:
    head = HEAD.replace("/v1/pairings", path)

    status, _, body = await say(
        shared, f"{head}Transfer-Encoding: {codings}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n".encode()
    )

    assert b" 415 " in status
    assert json.loads(body)["code"] == "UnsupportedEncoding"


async def test_a_defect_is_a_problem_without_a_word_about_it_and_a_line_in_the_log(
    served: Served, log: io.StringIO
) -> None:
    served.check.error = RuntimeError("something odd")
    await served.register("prague")

    answer = await served.client.call(
        "POST", "/v1/appliances/prague/check", headers={"operationID": "order-4711"}
    )

    assert (answer.status, answer.json["code"]) == (500, "InternalError")
    assert "odd" not in answer.body.decode()
    (crash,) = lines_of(log, "request_crashed")
    assert (crash["operationID"], crash["level"]) == ("order-4711", "error")
    assert "something odd" in json.dumps(crash["exception"])
    assert SECRET not in log.getvalue()


async def test_every_request_is_one_line_in_the_log_with_its_pattern(
    served: Served, log: io.StringIO
) -> None:
    for path in ["/v1/appliances/some-name", "/nowhere/some-name"]:
        await served.client.call("GET", path, headers={"operationID": "order-4711"})
    await served.stranger.call("GET", "/healthz")

    lines = lines_of(log, "request_served")
    assert [(line["route"], line["status"], line.get("user")) for line in lines] == [
        ("/v1/appliances/{name}", 404, "admin"),
        ("unmatched", 404, "admin"),
        ("/healthz", 200, None),
    ]
    assert [line["operationID"] for line in lines[:2]] == ["order-4711"] * 2
    assert "some-name" not in log.getvalue()


async def test_what_was_answered_is_forgotten_though_its_connection_is_kept(
    shared: Served,
) -> None:
    await shared.client.call("GET", "/openapi.yaml", headers={"operationID": "kept"})

    def is_kept(thing: object) -> bool:
        return (
            type(thing) is web.Response
            and thing.headers.get("operationID") == "kept"
            and thing.body is not None
        )

    async with asyncio.timeout(10):
        while any(is_kept(each) for each in gc.get_objects()):
            await shared.stranger.call("GET", "/healthz")
