"""An appliance as registered: where it is called, what pins it, who we are there."""

from dataclasses import dataclass, field
from uuid import UUID

from service.domain.appliance import Endpoint
from service.domain.ids import ApplianceName, OperationId
from service.domain.thumbprint import Thumbprint


@dataclass(frozen=True, slots=True)
class LocalUser:
    """A user of the appliance's own operating system (h4-api 1, `localUser`)."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SsoUser:
    """A user of the vCenter single sign-on (h4-api 1, `ssoCredentials`)."""

    user: str
    password: str = field(repr=False)


Credentials = LocalUser | SsoUser


@dataclass(frozen=True, slots=True)
class ApplianceSpec:
    """What a caller registers. Without `thumbprint` the system's CAs decide whom we trust.

    `max_in_flight` limits the mutating calls to the appliance at once.
    """

    name: ApplianceName
    management_url: str
    api_url: str
    api_thumbprint: Thumbprint
    credentials: Credentials
    thumbprint: Thumbprint | None = None
    description: str = ""
    max_in_flight: int = 4


@dataclass(frozen=True, slots=True)
class Registration:
    """A spec as stored. `id` names its audit chain; `version` grows with each replacement."""

    id: UUID
    spec: ApplianceSpec
    version: int
    created: int
    last_updated: int

    @property
    def endpoint(self) -> Endpoint:
        """How peers reach it."""
        spec = self.spec
        return Endpoint(spec.name, spec.api_url, spec.api_thumbprint, self.version, self.id)


@dataclass(frozen=True, slots=True)
class Author:
    """On whose behalf something is done: the audit trail's actor, and their correlation id."""

    user: str
    operation_id: OperationId
