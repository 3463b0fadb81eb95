"""Which appliances answer, as all workers know it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select

from service.domain.appliance import ApiError
from service.domain.ids import ApplianceName
from service.domain.registration import ApplianceHealth, LoginRefusal
from service.store.columns import is_one_of
from service.store.database import Database
from service.store.rows import error_from, error_to_json
from service.store.statements import statement
from service.store.tables import appliance, appliance_health


class Health:
    """The breakers that all workers share. While its breaker is open an appliance is *closed*, as a
    shop is. Times are by the database's clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, opened: Mapping[ApplianceName, ApiError]) -> None:
        """The breakers of these opened, for they do not answer; names that are not registered say
        nothing. Raises StoreUnavailable."""
        errors = [error_to_json(error) for error in opened.values()]
        await self._database.run(statement("report"), {"names": list(opened), "errors": errors})

    async def closed(self) -> Mapping[ApplianceName, ApiError]:
        """Those that are not to be called now, and why. Raises StoreUnavailable."""
        rows = await self._database.run(
            select(appliance.c.name, appliance_health.c.closed_error)
            .join(appliance_health)
            .where(appliance_health.c.closed_since.is_not(None))
        )
        return {ApplianceName(row.name): error_from(row.closed_error) for row in rows}

    async def take_probes(self) -> Sequence[ApplianceName]:
        """Those that it is time to try again: this caller's to do, nobody else's. Raises
        StoreUnavailable."""
        rows = await self._database.run(statement("take_probes"))
        return [ApplianceName(row.name) for row in rows]

    async def reopen(self, name: ApplianceName) -> None:
        """It answers again: what waited for it is due. Raises StoreUnavailable."""
        await self._database.run(statement("reopen"), {"name": name, "contact": True})

    async def health_of(
        self, names: Collection[ApplianceName]
    ) -> Mapping[ApplianceName, ApplianceHealth]:
        """What is known of each of `names` that is registered. Raises StoreUnavailable."""
        rows = await self._database.run(
            select(appliance.c.name, appliance.c.credentials_version, appliance_health)
            .outerjoin(appliance_health)
            .where(is_one_of(appliance.c.name, names))
        )
        return {ApplianceName(row.name): _health(row) for row in rows}


def _health(row: Row[Any]) -> ApplianceHealth:
    is_refused = row.refused_version == row.credentials_version
    return ApplianceHealth(
        closed_since=row.closed_since,
        error=error_from(row.closed_error),
        last_contact=row.last_contact,
        refused=LoginRefusal(error_from(row.refused_error), row.refused_status)
        if is_refused
        else None,
    )
