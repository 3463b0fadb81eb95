"""The registry of appliances."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import Row, delete, exists, insert, or_, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain import chain
from service.domain.appliance import normalized_url
from service.domain.author import Author
from service.domain.errors import ApplianceBusy, ApplianceExists, UnknownAppliance
from service.domain.events import ApplianceEvent, ApplianceRegistered, ApplianceRemoved, Entry
from service.domain.ids import ApplianceName
from service.domain.pairing import ChainPosition
from service.domain.registration import ApplianceSpec, Credentials, LocalUser, Registration
from service.domain.thumbprint import Thumbprint
from service.store.columns import is_one_of
from service.store.database import Database
from service.store.errors import violated_constraint
from service.store.rows import to_text, to_time
from service.store.statements import statement
from service.store.tables import ACTIVE, appliance, event, pairing
from service.store.vault import Sealed, Vault

_SAME_NAME = "uq_appliance_name"
_SAME_URL = "uq_appliance_api_url_normalized"
_NOBODY = LocalUser("", "")
_MOST_FORMERS = 16
_LOCK_S = 2.0
"""How long a change waits for a row. A batch may have it for longer, and who waits has one of the
few connections that all requests share."""


class Appliances:
    """Appliances as registered. Every change is an event in the chain of the registration, in the
    same transaction; credentials are sealed before they leave this process."""

    def __init__(self, database: Database, vault: Vault, clock: Callable[[], int]) -> None:
        """`clock` gives the time in ms."""
        self._database = database
        self._vault = vault
        self._clock = clock

    async def put(self, spec: ApplianceSpec, author: Author) -> tuple[Registration, bool]:
        """Register `spec`, or replace what is registered under its name; True if it is new.

        The version grows with each replacement, but a spec that is registered already changes
        nothing; its credentials are sealed with the newest key then, too. Raises ApplianceExists
        when another name has the same apiUrl, ValueError when that is no URL, StoreUnavailable.
        """
        spec = replace(spec, description=to_text(spec.description))
        while True:
            try:
                async with self._database.transaction(lock_timeout_s=_LOCK_S) as connection:
                    return await self._put(connection, spec, author)
            except IntegrityError as error:
                if violated_constraint(error) not in {_SAME_NAME, _SAME_URL}:
                    raise
            # Somebody has the URL, or took the name a moment ago: then it is to be replaced.
            owner = await self._owner_of(spec.api_url)
            if owner is not None and owner != spec.name:
                raise ApplianceExists(owner)

    async def get(self, name: ApplianceName) -> Registration:
        """One of them, sealed or not. Raises UnknownAppliance, StoreUnavailable."""
        found = await self.named([name])
        if name not in found:
            raise UnknownAppliance(name)
        return found[name]

    async def named(self, names: Collection[ApplianceName]) -> Mapping[ApplianceName, Registration]:
        """Those of `names` that are registered, sealed or not. Raises StoreUnavailable."""
        rows = await self._database.run(select(appliance).where(is_one_of(appliance.c.name, names)))
        return {ApplianceName(row.name): self._registration(row) for row in rows}

    async def page(self, limit: int, after: ApplianceName | None = None) -> Sequence[Registration]:
        """The first ones behind the name `after`, by name, sealed or not. Raises
        StoreUnavailable."""
        page = select(appliance).order_by(appliance.c.name).limit(limit)
        if after is not None:
            page = page.where(appliance.c.name > after)
        return [self._registration(row) for row in await self._database.run(page)]

    async def delete(self, name: ApplianceName, author: Author) -> None:
        """Raises UnknownAppliance, ApplianceBusy while pairings on it are active,
        StoreUnavailable."""
        async with self._database.transaction(lock_timeout_s=_LOCK_S) as connection:
            # Whoever accepts a pairing holds this row meanwhile: either we see the pairing below,
            # or they see no appliance.
            row = await _locked(connection, name, key_share=False)
            if row is None:
                raise UnknownAppliance(name)
            involved = or_(pairing.c.couple_low == name, pairing.c.couple_high == name)
            active = select(exists().where(involved, text(ACTIVE)))
            if (await connection.execute(active)).scalar_one():
                raise ApplianceBusy(name)
            await connection.execute(delete(appliance).where(appliance.c.id == row.id))
            await self._record(connection, ApplianceRemoved(name), _Chain.of(row), author)

    async def _put(
        self, connection: AsyncConnection, spec: ApplianceSpec, author: Author
    ) -> tuple[Registration, bool]:
        row = await _locked(connection, spec.name, key_share=True)
        if row is None:
            return await self._insert(connection, spec, author), True
        before = self._registration(row)
        if not before.is_sealed and before.spec == spec:
            await self._seal_anew(connection, row, spec.credentials)
            return before, False
        is_changed = before.is_sealed or before.spec.credentials != spec.credentials
        registered = _registered(spec, row.version + 1, credentials_changed=is_changed)
        entry = await self._record(connection, registered, _Chain.of(row), author)
        after = Registration(
            row.id,
            spec,
            row.version + 1,
            row.created,
            entry.at,
            row.credentials_version + is_changed,
            _former_api_urls(row, spec),
        )
        changed = update(appliance).where(appliance.c.id == row.id)
        await connection.execute(changed, self._columns(after, entry))
        # Whatever was wrong may be mended by what is new.
        await connection.execute(statement("reopen"), {"name": spec.name, "contact": False})
        return after, False

    async def _seal_anew(
        self, connection: AsyncConnection, row: Row[Any], credentials: Credentials
    ) -> None:
        if not self._vault.is_by_newest_key(row.credentials, row.id):
            sealed = {"credentials": self._vault.seal(credentials, row.id)}
            await connection.execute(update(appliance).where(appliance.c.id == row.id), sealed)

    async def _insert(
        self, connection: AsyncConnection, spec: ApplianceSpec, author: Author
    ) -> Registration:
        registered = _registered(spec, 1, credentials_changed=True)
        chain_of_it = _Chain(uuid_utils.compat.uuid7(), ChainPosition(), 0)
        entry = await self._record(connection, registered, chain_of_it, author)
        registration = Registration(chain_of_it.id, spec, 1, entry.at, entry.at)
        await connection.execute(insert(appliance), self._columns(registration, entry))
        return registration

    async def _record(
        self,
        connection: AsyncConnection,
        happened: ApplianceEvent,
        chain_of_it: "_Chain",
        author: Author,
    ) -> Entry:
        entry = chain.append(
            happened,
            chain_of_it.position,
            chain=chain_of_it.id,
            at=max(self._clock(), chain_of_it.last_updated),
            actor=author.user,
            operation_id=author.operation_id,
        )
        await connection.execute(
            insert(event),
            {
                "chain": entry.chain,
                "seq": entry.seq,
                "at": to_time(entry.at),
                "type": entry.type,
                "appliance": entry.appliance,
                "actor": entry.actor,
                "operation_id": entry.operation_id,
                "detail": entry.detail,
                "hash": entry.hash,
            },
        )
        return entry

    async def _owner_of(self, api_url: str) -> ApplianceName | None:
        same = appliance.c.api_url_normalized == normalized_url(api_url)
        rows = await self._database.run(select(appliance.c.name).where(same))
        return ApplianceName(rows[0].name) if rows else None

    def _columns(self, registration: Registration, entry: Entry) -> dict[str, object]:
        spec = registration.spec
        return {
            "id": registration.id,
            "name": spec.name,
            "management_url": spec.management_url,
            "api_url": spec.api_url,
            "api_url_normalized": normalized_url(spec.api_url),
            "thumbprint": spec.thumbprint,
            "api_thumbprint": spec.api_thumbprint,
            "credentials": self._vault.seal(spec.credentials, registration.id),
            "description": spec.description,
            "max_in_flight": spec.max_in_flight,
            "version": registration.version,
            "credentials_version": registration.credentials_version,
            "former_api_url": next(iter(registration.former_api_urls), None),
            "older_api_urls": list(registration.former_api_urls[1:]),
            "created": registration.created,
            "last_updated": registration.last_updated,
            "seq": entry.seq,
            "head": entry.hash,
        }

    def _registration(self, row: Row[Any]) -> Registration:
        try:
            return _registration(row, self._vault.open(row.credentials, row.id))
        except Sealed:
            return replace(_registration(row, _NOBODY), is_sealed=True)


@dataclass(frozen=True, slots=True)
class _Chain:
    """Where the chain of a registration stands."""

    id: UUID
    position: ChainPosition
    last_updated: int

    @classmethod
    def of(cls, row: Row[Any]) -> "_Chain":
        return cls(row.id, ChainPosition(row.seq, row.head), row.last_updated)


async def _locked(
    connection: AsyncConnection, name: ApplianceName, *, key_share: bool
) -> Row[Any] | None:
    """The row, for us alone to change; with `key_share`, pairings may be accepted meanwhile."""
    query = select(appliance).where(appliance.c.name == name).with_for_update(key_share=key_share)
    return (await connection.execute(query)).one_or_none()


def _registration(row: Row[Any], credentials: Credentials) -> Registration:
    spec = ApplianceSpec(
        name=ApplianceName(row.name),
        management_url=row.management_url,
        api_url=row.api_url,
        api_thumbprint=Thumbprint(row.api_thumbprint),
        credentials=credentials,
        thumbprint=Thumbprint(row.thumbprint) if row.thumbprint is not None else None,
        description=row.description,
        max_in_flight=row.max_in_flight,
    )
    return Registration(
        row.id,
        spec,
        row.version,
        row.created,
        row.last_updated,
        row.credentials_version,
        _known_formers(row),
    )


def _former_api_urls(row: Row[Any], spec: ApplianceSpec) -> tuple[str, ...]:
    """What the peers that were told before may still know, normalized, the last one first."""
    now = normalized_url(spec.api_url)
    before = dict.fromkeys((row.api_url_normalized, *_known_formers(row)))
    return tuple([url for url in before if url != now])[:_MOST_FORMERS]


def _known_formers(row: Row[Any]) -> tuple[str, ...]:
    return () if row.former_api_url is None else (row.former_api_url, *row.older_api_urls)


def _registered(
    spec: ApplianceSpec, version: int, *, credentials_changed: bool
) -> ApplianceRegistered:
    return ApplianceRegistered(
        name=spec.name,
        version=version,
        management_url=spec.management_url,
        api_url=spec.api_url,
        thumbprint=spec.thumbprint,
        api_thumbprint=spec.api_thumbprint,
        credentials_changed=credentials_changed,
    )
