"""`openapi.yaml`, compiled: what requests are judged by is what callers read."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import jsonschema_rs
import yaml

from service.api.faults import MOST, Fault, Wording, faults_of
from service.api.urls import url_fault
from service.resources import resource

Place = Literal["query", "header", "path"]
Scalar = str | int | float | bool

_FORMATS = {"appliance-url": url_fault}
_REF = "$ref"
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
_KINDS = {"integer": "an integer", "number": "a number", "boolean": "true or false"}
_BOOLEANS = {"true": True, "false": False}
_INTEGER = re.compile(r"-?[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Schema:
    """One schema of the contract, ready to judge."""

    validator: jsonschema_rs.Draft202012Validator
    wording: Wording

    def faults(self, instance: object, most: int = MOST) -> list[Fault]:
        """All that is wrong with `instance`, parsed JSON without lone surrogates; the first `most`
        things."""
        return faults_of(self.validator.iter_errors(instance), self.wording, most)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an operation; `type` is its JSON type."""

    name: str
    place: Place
    type: str
    schema: Schema

    def parse(self, text: str) -> Scalar | Fault:
        """`text` as a value, or what is wrong with it."""
        if not _is_unicode(text):
            return Fault("must be UTF-8", parameter=self.name)
        value = _scalar(self.type, text)
        if value is None:
            return Fault(f"must be {_KINDS[self.type]}", parameter=self.name)
        faults = self.schema.faults(value)
        return Fault(faults[0].detail, parameter=self.name) if faults else value


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the contract. Without `body` it takes none. `headers` are those it knows."""

    id: str
    parameters: Mapping[tuple[Place, str], Parameter]
    headers: tuple[str, ...]
    body: Schema | None


@dataclass(frozen=True, slots=True)
class Contract:
    """The text as served, its operations by method and path template, and what one request for a
    pairing is, which many of come in one body."""

    text: bytes
    operations: Mapping[tuple[str, str], Operation]
    pairing_request: Schema


@cache
def load() -> Contract:
    """The contract that belongs to this code. Raises OSError, KeyError when it is broken."""
    text = resource("openapi.yaml").read_bytes()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: dict[str, Any] = yaml.load(text, loader)  # noqa: S506 - either is a safe loader
    compiler = _Compiler(document)
    pairing_request = compiler.schema({_REF: "#/components/schemas/PairingRequest"})
    return Contract(text, dict(compiler.operations()), pairing_request)


class _Compiler:
    """Turns the document's operations into values."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = _stopping(document)
        self._wording = Wording(dict(_patterns(document)), _FORMATS)

    def operations(self) -> Iterator[tuple[tuple[str, str], Operation]]:
        for path, item in self._document["paths"].items():
            common = item.get("parameters", [])
            for method in item.keys() - {"parameters"}:
                operation = item[method]
                yield (
                    (method.upper(), path),
                    self._operation(operation, [*common, *operation.get("parameters", [])]),
                )

    def _operation(self, operation: dict[str, Any], parameters: list[dict[str, Any]]) -> Operation:
        compiled = [self._parameter(self._resolved(parameter)) for parameter in parameters]
        body = operation.get("requestBody")
        return Operation(
            id=operation["operationId"],
            parameters={(parameter.place, parameter.name): parameter for parameter in compiled},
            headers=tuple([each.name for each in compiled if each.place == "header"]),
            body=self.schema(body["content"]["application/json"]["schema"]) if body else None,
        )

    def _parameter(self, parameter: dict[str, Any]) -> Parameter:
        schema = parameter["schema"]
        return Parameter(
            name=parameter["name"],
            place=parameter["in"],
            type=self._resolved(schema)["type"],
            schema=self.schema(schema),
        )

    def schema(self, schema: dict[str, Any]) -> Schema:
        """A schema of the document, ready to judge."""
        whole = {**schema, "components": self._document["components"]}
        judges = {name: _holds(judge) for name, judge in _FORMATS.items()}
        validator = jsonschema_rs.Draft202012Validator(
            whole, formats=judges, validate_formats=True, offline=True
        )
        return Schema(validator, self._wording)

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        if _REF not in node:
            return node
        target: Any = self._document
        for part in node[_REF].removeprefix("#/").split("/"):
            target = target[part]
        return self._resolved(target)


def _patterns(node: object) -> Iterator[tuple[str, str]]:
    """The words (`x-says`) for every pattern below `node`."""
    if isinstance(node, dict):
        if "x-says" in node:
            yield node["pattern"], node["x-says"]
        for child in node.values():
            yield from _patterns(child)
    elif isinstance(node, list):
        for child in node:
            yield from _patterns(child)


def _stopping(node: Any) -> Any:
    """`node`, whose arrays' items are not judged where there are too many of them, which is a fault
    already. The validator finds all faults before the first one is seen, and a body of a megabyte
    can have half a million, each of them 20 us."""
    if isinstance(node, list):
        return [_stopping(each) for each in node]
    if not isinstance(node, dict):
        return node
    stopping = {name: _stopping(each) for name, each in node.items()}
    if {"items", "maxItems"} <= node.keys():
        stopping["if"] = {"maxItems": node["maxItems"]}
        stopping["then"] = {"items": stopping.pop("items")}
    return stopping


def _holds(judge: Any) -> Any:
    return lambda text: judge(text) is None


def _scalar(kind: str, text: str) -> Scalar | None:
    match kind:
        case "integer":
            return int(text) if _INTEGER.fullmatch(text) else None
        case "boolean":
            return _BOOLEANS.get(text)
        case "number":
            return float(text) if _NUMBER.fullmatch(text) else None
        case _:
            return text


def _is_unicode(text: str) -> bool:
    """Whether it has no bytes that were no UTF-8 (they come as lone surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
