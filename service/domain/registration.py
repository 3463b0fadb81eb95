"""An appliance as registered: where it is called, what pins it, who we are there."""

from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from service.domain.appliance import ApiError, Endpoint
from service.domain.ids import ApplianceName
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
    """A spec as stored. `id` names its audit chain; `version` grows with each replacement,
    `credentials_version` with each that changed the credentials. If it `is_sealed`, no key of this
    process opens its credentials, and it has nobody's."""

    id: UUID
    spec: ApplianceSpec
    version: int
    created: int
    last_updated: int
    credentials_version: int = 1
    former_api_urls: tuple[str, ...] = ()
    is_sealed: bool = False

    @property
    def endpoint(self) -> Endpoint:
        """How peers reach it."""
        spec = self.spec
        return Endpoint(
            spec.name,
            spec.api_url,
            spec.api_thumbprint,
            self.version,
            self.id,
            self.former_api_urls,
        )


@dataclass(frozen=True, slots=True)
class LoginRefusal:
    """How an appliance refused a login: its words, and the HTTP status."""

    error: ApiError
    status: int


class LoginEnd(Enum):
    """How a login ended that was not refused; UNKNOWN: for all that is known, it may have been."""

    ACCEPTED = "accepted"
    UNKNOWN = "unknown"


LoginOutcome = LoginEnd | LoginRefusal


@dataclass(frozen=True, slots=True)
class ApplianceHealth:
    """What is known of an appliance's ability to answer. Times in ms.

    `closed_since`, because of `error`, it is called by nobody but a probe. `last_contact` is the
    last answer on record: of a login, or of a probe. `refused`: its credentials, as they are.
    """

    closed_since: int | None = None
    error: ApiError | None = None
    last_contact: int | None = None
    refused: LoginRefusal | None = None
