"""From what was asked, judged by the contract, to the values that the inner layers take."""

import hashlib
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import msgspec

from service.api.faults import Fault
from service.api.paging import ForeignCursor
from service.api.refusals import InvalidRequest
from service.api.urls import host_of
from service.api.validation import Asked
from service.domain.ids import ApplianceName, BatchId, OperationId, PairingId, is_appliance_name
from service.domain.pairing import OnFailure, Operation, PairingState
from service.domain.registration import ApplianceSpec, Credentials, LocalUser, SsoUser
from service.domain.thumbprint import parse_thumbprint
from service.store.audit import AuditFilter
from service.store.intake import IdempotencyKey, PairingRequest
from service.store.pairings import PairingFilter

DEFAULT_LIMIT = 100

Value = TypeVar("Value")


class _LocalUserBody(
    msgspec.Struct, frozen=True, rename="camel", tag_field="type", tag="localUser"
):
    local_user: str
    local_password: str


class _SsoBody(msgspec.Struct, frozen=True, rename="camel", tag_field="type", tag="ssoCredentials"):
    username: str
    password: str


class _ApplianceBody(msgspec.Struct, frozen=True, rename="camel"):
    management_url: str
    api_url: str
    api_thumbprint: str
    credentials: _LocalUserBody | _SsoBody
    thumbprint: str | None = None
    description: str = ""
    max_in_flight: int = 4


class _PairingBody(msgspec.Struct, frozen=True, rename="camel"):
    appliances: tuple[str, str]
    operation: Operation = Operation.PAIR
    on_failure: OnFailure = OnFailure.ROLLBACK
    description: str = ""
    timeout_seconds: int = 900
    priority: int = 0


DEFAULTS = _PairingBody(("", ""))
"""What a request for a pairing means that says nothing but the appliances."""


def appliance_spec(
    asked: Asked, name: str, egress_forbids: Callable[[str], str | None]
) -> ApplianceSpec:
    """The registration that is asked for under `name`. Raises InvalidRequest, with all faults."""
    asked.insist(*_name_faults(name), *_egress_faults(asked, egress_forbids))
    body = msgspec.convert(asked.body, _ApplianceBody)
    return ApplianceSpec(
        name=ApplianceName(name),
        management_url=body.management_url,
        api_url=body.api_url,
        api_thumbprint=parse_thumbprint(body.api_thumbprint),
        credentials=_credentials(body.credentials),
        thumbprint=parse_thumbprint(body.thumbprint) if body.thumbprint is not None else None,
        description=body.description,
        max_in_flight=body.max_in_flight,
    )


def pairing_request(asked: Asked) -> PairingRequest:
    """The pairing that is asked for. Raises InvalidRequest, with all faults."""
    asked.insist()
    body = msgspec.convert(asked.body, _PairingBody)
    one, other = body.appliances
    return PairingRequest(
        appliances=(ApplianceName(one), ApplianceName(other)),
        operation=body.operation,
        description=body.description,
        timeout_s=body.timeout_seconds,
        priority=body.priority,
        on_failure=body.on_failure,
    )


def idempotency_key(asked: Asked, request: PairingRequest) -> IdempotencyKey | None:
    """The caller's key for `request`, bound to what it asks, not to how its JSON is spelt."""
    key = asked.parameters.get("Idempotency-Key")
    if key is None:
        return None
    asked_for = msgspec.to_builtins(request)
    if request.on_failure is OnFailure.ROLLBACK:
        del asked_for["on_failure"]  # so that keys from before one could ask stay good
    content = msgspec.json.encode(asked_for, order="sorted")
    return IdempotencyKey(str(key), hashlib.sha256(content).digest())


def batch_key(asked: Asked, media_type: str, body_digest: bytes) -> IdempotencyKey | None:
    """The caller's key for a batch, bound to its body, byte by byte, and to how it is meant."""
    key = asked.parameters.get("Idempotency-Key")
    if key is None:
        return None
    meant = f"{media_type}\0{is_atomic(asked)}\0".encode()
    return IdempotencyKey(str(key), hashlib.sha256(meant + body_digest).digest())


def is_atomic(asked: Asked) -> bool:
    """Whether a batch is to be accepted as a whole or not at all."""
    return bool(asked.parameters.get("atomic", False))


def pairing_filter(asked: Asked) -> PairingFilter:
    """Which pairings are asked for. Raises InvalidRequest unless that can be told; how many of them
    is another matter."""
    if any(fault.parameter != "limit" for fault in asked.faults):
        asked.insist()
    return PairingFilter(
        state=_given(asked, "state", PairingState),
        appliance=_given(asked, "appliance", ApplianceName),
        operation_id=_given(asked, "operationID", OperationId),
        batch=_given(asked, "batch", lambda text: BatchId(UUID(text))),
    )


def audit_filter(asked: Asked) -> AuditFilter:
    """Which events are asked for, as far as nothing is wrong with that."""
    return AuditFilter(
        operation_id=_given(asked, "operationID", OperationId),
        pairing=_given(asked, "pairing", lambda text: PairingId(UUID(text))),
        appliance=_given(asked, "appliance", ApplianceName),
    )


def behind(
    asked: Asked, name: str, place_of: Callable[[str], Value], otherwise: str
) -> Value | None:
    """What the cursor in the parameter `name` stands behind; None without one. Raises
    InvalidRequest with all faults, that it is `otherwise` included, if it is none of ours."""
    try:
        return _given(asked, name, place_of)
    except ForeignCursor:
        raise InvalidRequest([*asked.faults, Fault(otherwise, parameter=name)]) from None


def limit_of(asked: Asked, default: int = DEFAULT_LIMIT) -> int:
    """How many items are asked for."""
    return int(asked.parameters.get("limit", default))


def wait_s(asked: Asked) -> float:
    """How long the caller is willing to wait."""
    return float(asked.parameters.get("waitSeconds", 0.0))


def _given(asked: Asked, name: str, read: Callable[[str], Value]) -> Value | None:
    text = asked.parameters.get(name)
    return read(str(text)) if text is not None else None


def _credentials(body: _LocalUserBody | _SsoBody) -> Credentials:
    if isinstance(body, _LocalUserBody):
        return LocalUser(body.local_user, body.local_password)
    return SsoUser(body.username, body.password)


def _name_faults(name: str) -> list[Fault]:
    if is_appliance_name(name):
        return []
    return [Fault("must be 1 to 63 characters out of a-z, 0-9 and -", parameter="name")]


def _egress_faults(asked: Asked, forbids: Callable[[str], str | None]) -> list[Fault]:
    url = asked.body.get("managementUrl") if isinstance(asked.body, dict) else None
    if not isinstance(url, str) or not asked.is_sound("/managementUrl"):
        return []
    reason = forbids(host_of(url))
    return [Fault(reason, "/managementUrl")] if reason is not None else []
