"""A request as the contract understands it: parameters and body, with all that is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from aiohttp import web

from service.api import strictjson
from service.api.bodies import read_text
from service.api.contract import Operation, Parameter, Place, Scalar
from service.api.faults import Fault, shown
from service.api.parts import CONTRACT
from service.api.refusals import InvalidRequest, MalformedBody


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks for. Only parameters without fault are in `parameters`."""

    parameters: Mapping[str, Scalar]
    body: object
    faults: tuple[Fault, ...]

    def insist(self, *more: Fault) -> None:
        """Go on only if nothing is wrong, `more` included. Raises InvalidRequest."""
        if self.faults or more:
            raise InvalidRequest([*self.faults, *more])

    def is_sound(self, pointer: str) -> bool:
        """Whether nothing is wrong with this field of the body, nor with the body as a whole."""
        return not any(fault.pointer in {"", pointer} for fault in self.faults)


async def read(request: web.Request) -> Asked:
    """Judge `request` by the contract. Raises what `refusals` has about bodies."""
    operation = operation_of(request)
    parameters, faults = parameters_of(request)
    if operation.body is None:
        return Asked(parameters, None, tuple(faults))
    body, body_faults = read_body(operation, await read_text(request))
    return Asked(parameters, body, (*faults, *body_faults))


def parameters_of(request: web.Request) -> tuple[dict[str, Scalar], list[Fault]]:
    """The parameters of `request` that are well-formed, and the faults of the others."""
    operation = operation_of(request)
    headers = {
        name: request.headers.getall(name) for name in operation.headers if name in request.headers
    }
    return read_parameters(operation, request.rel_url.raw_query_string, headers)


def operation_of(request: web.Request) -> Operation:
    """The operation of the contract that the route serves."""
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else ""
    method = "GET" if request.method == "HEAD" else request.method
    return request.app[CONTRACT].operations[method, path]


def read_body(operation: Operation, text: str) -> tuple[object, list[Fault]]:
    """The body's value and all its faults. Raises MalformedBody."""
    try:
        parsed = strictjson.parse(text)
    except strictjson.NotJson as error:
        raise MalformedBody(str(error)) from None
    judged = operation.body.faults(parsed.value) if operation.body is not None else []
    return parsed.value, [*parsed.faults, *judged]


def read_parameters(
    operation: Operation, query: str, headers: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Scalar], list[Fault]]:
    """The parameters of query and headers that are well-formed, and the faults of the others.

    `headers` has all values of each header that the operation knows.
    """
    values: dict[str, Scalar] = {}
    faults: list[Fault] = []
    for place, name, texts in [*_query(query, faults), *_headers(headers)]:
        value = _value(operation.parameters.get((place, name)), name, texts)
        if isinstance(value, Fault):
            faults.append(value)
        else:
            values[name] = value
    return values, faults


def _value(parameter: Parameter | None, name: str, texts: Sequence[str]) -> Scalar | Fault:
    if parameter is None:
        return Fault("is not a known parameter", parameter=shown(name))
    if len(texts) > 1:
        return Fault("comes more than once", parameter=parameter.name)
    return parameter.parse(texts[0])


def _query(query: str, faults: list[Fault]) -> Iterator[tuple[Place, str, Sequence[str]]]:
    if not query:
        return
    try:
        found = parse_qs(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        faults.append(Fault("cannot be read as name=value&... in UTF-8", parameter="query"))
        return
    for name, texts in found.items():
        yield "query", name, texts


def _headers(
    headers: Mapping[str, Sequence[str]],
) -> Iterator[tuple[Place, str, Sequence[str]]]:
    # The operationID is the middleware's: every response needs it, an unreadable one included.
    for name in sorted(headers.keys() - {"operationID"}):
        yield "header", name, headers[name]
