"""What goes over the wire, in the field order that was observed there (h4-api 2.2, 3.1, 7)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Struct, UnsetType

TOKEN_HEADER = "X-VCAV-Auth"  # noqa: S105 - the header's name, h4-api 1
OPERATION_HEADER = "operationID"
PLAIN_JSON = "application/json;charset=UTF-8"
VERSIONS = ("1", "2", "3", "3.5", "4.3", "4.5", "4.6", "4.7")
_VENDOR_TYPE = re.compile(r"application/vnd\.vmware\.h4-v([0-9.]+)\+json")


class ApiError(Struct, frozen=True, gc=False):
    """The body of every status from 400 on, and of task and comm errors (h4-api 7)."""

    code: str
    msg: str
    args: tuple[str, ...] = ()
    stacktrace: str = ""


class PeerState(Struct, frozen=True, rename="camel", gc=False):
    """Connectivity problems of a peer: null means none (h4-api 2.3)."""

    incoming_comm_error: ApiError | None = None
    outgoing_comm_error: ApiError | None = None


class ManagerPeerInfo(Struct, frozen=True, rename="camel", gc=False):
    """One element of GET /sites, and the result of a pair task (h4-api 2.2)."""

    id: str
    site: str
    description: str
    api_url: str
    api_public_url: str
    api_thumbprint: str
    is_local: bool
    state: PeerState
    api_version: str | None
    is_provider_deployment: bool
    peer_tunnel_cert: str | None


class ManagerHealthInfo(Struct, frozen=True, rename="camel", gc=False):
    """The result of a health task (h4-api 8)."""

    product_name: str
    build_version: str
    instance_id: str
    current_time: int
    address: str
    service_boot_timestamp: int
    appliance_boot_timestamp: int
    ls_error: ApiError | None = None
    db_error: ApiError | None = None
    ntp_error: ApiError | None = None
    online_replicators: tuple[str, ...] = ()
    offline_replicators: tuple[str, ...] = ()


Result = ManagerPeerInfo | ManagerHealthInfo


class WorkflowInfo(Struct, frozen=True, rename="camel", gc=False):
    """What a task is about (h4-api 3.1)."""

    type: str
    resource_type: str
    resource_id: str | None = None
    resource_name: str | None = None


class ApiTask(Struct, rename="camel", gc=False):
    """A task as /sites answers it, and with `site` as /tasks does (h4-api 3.1)."""

    id: str
    user: str
    workflow_info: WorkflowInfo
    progress: int
    state: str
    last_updated: int
    start_time: int
    end_time: int
    result_type: str | UnsetType = UNSET
    result: Result | UnsetType = UNSET
    error: ApiError | UnsetType = UNSET
    warnings: tuple[str, ...] = ()
    site: str | UnsetType = UNSET


class UpdateSiteRequest(Struct, rename="camel", gc=False):
    """The body of POST and PUT /sites: every field is typed optional (h4-api 2.1)."""

    api_url: str | None = None
    api_thumbprint: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request, stripped of its transport."""

    method: str
    path: str
    query_string: str = ""
    body: bytes = b""
    token: str | None = None
    operation_id: str | None = None
    accept: str | None = None
    address: str = ""

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one the last."""
        return dict(parse_qsl(self.query_string)) if self.query_string else {}


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, ready to send."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def vendor_type(version: str) -> str:
    """The vendor's media type of an API version (h4-api 4)."""
    return f"application/vnd.vmware.h4-v{version}+json;charset=UTF-8"


@lru_cache(maxsize=256)
def accepted_version(accept: str | None, newest: str) -> str | None:
    """The API version that an Accept header asks for; None when it can not be served (h4-api 4)."""
    if not accept:
        return newest
    served = VERSIONS[: VERSIONS.index(newest) + 1] if newest in VERSIONS else (*VERSIONS, newest)
    for offer in accept.split(","):
        media = offer.partition(";")[0].strip().lower()
        if media in {"*/*", "application/*", "application/json"}:
            return newest
        match = _VENDOR_TYPE.fullmatch(media)
        if match is not None and match[1] in served:
            return match[1]
    return None


encode = msgspec.json.encode
