"""Holds every response that a test sees against `openapi.yaml`, stricter than a client would be:
a field that the contract does not name is a fault too. Shares no code with the service."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jsonschema_rs
import yaml

from tests.support.sse import Frame, frames, frames_of

_DOCUMENT = Path(__file__).parents[2] / "openapi.yaml"
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_PROBLEM_MEDIA_TYPE = "application/problem+json"
_EVENT_STREAM = "text/event-stream"
_OPERATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class ContractBroken(AssertionError):
    """A response that the contract does not allow."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read to its end and found to be in the contract."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class ContractClient:
    """Calls a service and checks each answer. `url` has no slash at the end."""

    session: aiohttp.ClientSession
    url: str

    async def call(self, method: str, path: str, **kwargs: Any) -> Answer:
        """What the service answers to `method path`; `kwargs` as for aiohttp's `request`.

        Raises ContractBroken.
        """
        async with self.session.request(method, self.url + path, **kwargs) as response:
            body = await response.read()
            check_response(method, urlsplit(path).path, response.status, response.headers, body)
            return Answer(response.status, response.headers.copy(), body)

    @asynccontextmanager
    async def stream(self, path: str, **headers: str) -> AsyncIterator["LiveEvents"]:
        """The server-sent events of `GET path`, once the service has begun to answer."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(self.url + path, headers=sent, timeout=timeout) as response:
            if response.status != 200:
                body = await response.read()
                check_response("GET", urlsplit(path).path, response.status, response.headers, body)
                raise AssertionError(f"no stream: {response.status} {body!r}")
            yield LiveEvents(path, response)


class LiveEvents:
    """Server-sent events as they come, each checked against the contract."""

    def __init__(self, path: str, response: aiohttp.ClientResponse) -> None:
        self._path = urlsplit(path).path
        self._response = response
        self._frames = frames(response)
        check_response("GET", self._path, response.status, response.headers, b"")

    async def next(self) -> Any:
        """The next event's data. Raises StopAsyncIteration at the end of the stream."""
        while True:
            frame = await self._frames.__anext__()
            if frame.is_message:
                return _checked_message(f"GET {self._path}", _event_schema(self._path), frame)

    async def take(self, count: int) -> list[Any]:
        """The data of so many events."""
        return [await self.next() for _ in range(count)]

    def cut(self) -> None:
        """Break the connection, as a client does that goes away."""
        self._response.close()


@asynccontextmanager
async def contract_client(url: str, token: str | None) -> AsyncIterator[ContractClient]:
    """A client of the service at `url`, with `token` unless it is None."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield ContractClient(session, url.rstrip("/"))


def check_response(
    method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Raise ContractBroken unless the contract has this answer to `method path`."""
    where = f"{method} {path} -> {status}"
    known_as = headers.get("operationID", "")
    if _OPERATION_ID.fullmatch(known_as) is None:
        raise ContractBroken(f"{where}: operationID {known_as!r}")
    documented = _responses(method, path)
    if documented is None:
        _check_undocumented(where, method, status, headers, body)
        return
    response = documented.get(str(status))
    if response is None:
        raise ContractBroken(f"{where}: not among {sorted(documented)}: {body[:500]!r}")
    _check_headers(where, response.get("headers", {}), headers)
    _check_content(where, method, response.get("content", {}), headers, body)


def _check_undocumented(
    where: str, method: str, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """A path or method that is not in the contract: refused, as a problem."""
    if status not in {400, 401, 404, 405}:
        raise ContractBroken(f"{where}: not in the contract at all")
    if (status == 405) != ("Allow" in headers):
        raise ContractBroken(f"{where}: Allow {headers.get('Allow')!r}")
    _check_content(where, method, {_PROBLEM_MEDIA_TYPE: {"schema": _PROBLEM}}, headers, body)


def _check_headers(where: str, documented: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    for name, header in documented.items():
        header = _resolved(header)  # noqa: PLW2901 - the same thing, found
        if name not in headers:
            if header.get("required"):
                raise ContractBroken(f"{where}: no {name}")
            continue
        kind = _resolved(header["schema"])["type"]
        value = int(headers[name]) if kind == "integer" else headers[name]
        _check_schema(f"{where}: {name}", header["schema"], value)


def _check_content(
    where: str,
    method: str,
    documented: Mapping[str, Any],
    headers: Mapping[str, str],
    body: bytes,
) -> None:
    media_type = headers.get("Content-Type", "").partition(";")[0]
    if not documented:
        if body or media_type:
            raise ContractBroken(f"{where}: a body that is not in the contract")
        return
    if media_type not in documented:
        raise ContractBroken(f"{where}: {media_type!r} is not among {sorted(documented)}")
    if method == "HEAD":
        if body:
            raise ContractBroken(f"{where}: a body")
        return
    if media_type == _EVENT_STREAM:
        for frame in frames_of(body):
            if frame.is_message:
                _checked_message(where, documented[media_type]["x-data"], frame)
        return
    _check_schema(where, documented[media_type]["schema"], _content(media_type, body))


def _content(media_type: str, body: bytes) -> object:
    if media_type == "text/plain":
        return body.decode()
    return json.loads(body) if media_type.endswith("json") else yaml.safe_load(body)


def _checked_message(where: str, schema: Mapping[str, Any], frame: Frame) -> Any:
    """The data of a message, which the schema describes and whose fields say the same."""
    data = json.loads(frame.fields["data"])
    _check_schema(where, schema, data)
    if (data["id"], data["type"]) != (frame.fields["id"], frame.fields["event"]):
        raise ContractBroken(f"{where}: {frame.fields} says two things")
    return data


def _event_schema(path: str) -> Mapping[str, Any]:
    documented = _responses("GET", path) or {}
    schema: Mapping[str, Any] = documented["200"]["content"][_EVENT_STREAM]["x-data"]
    return schema


def _check_schema(where: str, schema: Mapping[str, Any], content: object) -> None:
    errors = list(_validator(json.dumps(schema)).iter_errors(content))
    if errors:
        found = "; ".join(f"{error.instance_path}: {error.message[:300]}" for error in errors)
        raise ContractBroken(f"{where}: {found}")


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(_DOCUMENT.read_text())
    return document


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    whole = {**json.loads(schema), "components": _document()["components"]}
    return jsonschema_rs.Draft202012Validator(_closed(whole), validate_formats=True, offline=True)


def _closed(node: Any) -> Any:
    """The schema with every object closed that does not say that it is open."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {name: _closed(item) for name, item in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _responses(method: str, path: str) -> dict[str, Any] | None:
    """What is documented for this call, or None if the call is not."""
    method = "get" if method == "HEAD" else method.lower()
    for template, item in _document()["paths"].items():
        pattern = re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method in item:
            responses = item[method]["responses"]
            return {status: _resolved(response) for status, response in responses.items()}
    return None


def _resolved(node: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return dict(node)
    target: Any = _document()
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return _resolved(target)
