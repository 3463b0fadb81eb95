"""What is done to the database by itself, whether the service runs or not."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from service.domain.chain import Verdict
from service.domain.errors import NotOurs, SitepairError, StoreUnavailable, UnknownPairing
from service.observe.events import DatabaseStarting
from service.observe.logging import emit
from service.settings import InvalidSettings, Settings
from service.store.chains import Chains
from service.store.database import Database
from service.store.embedded import embedded_postgres, keep_serving
from service.store.migrate import SchemaState, Standing, current_state, upgrade
from service.store.pruning import Pruned, Pruner
from service.store.urls import DatabaseUrl


async def migrate(settings: Settings) -> str:
    """Bring the database to this version's schema; says what was done. Raises InvalidSettings when
    it would be done through a PgBouncer, SitepairError."""
    async with AsyncExitStack() as stack:
        url, kind = await database_url(stack, settings)
        if DatabaseUrl.parse(url).pgbouncer:
            # Its lock and its settings would stay on a server of the PgBouncer's.
            raise InvalidSettings(
                ["SITEPAIR_DATABASE_URL: leads to a PgBouncer; migrate by the server's own URL"]
            )
        with _named(url):
            before = await current_state(url)
            after = await upgrade(url)
        _refuse_newer_schema(after)
        return f"{kind} database: {before.found or 'empty'} -> {after.found}, {after.standing}"


async def verify_chains(
    settings: Settings, only: UUID | None, tell: Callable[[Verdict], None]
) -> None:
    """Look at every chain of the database, or at `only` that one; `tell` is told of each.

    Raises UnknownPairing when there is no such one, InvalidSettings when there is no database,
    SitepairError.
    """
    found = False
    async with _database(settings) as database, aclosing(Chains(database).verify(only)) as verdicts:
        async for verdict in verdicts:
            found = True
            tell(verdict)
    if only is not None and not found:
        raise UnknownPairing


async def prune(
    settings: Settings, age: timedelta, tell: Callable[[int, Pruned], None], *, dry_run: bool
) -> None:
    """Remove what was over `age` ago; `tell` is told the cut-off (ms), and of each step. With
    `dry_run`, of what would be removed. Raises InvalidSettings when there is no database,
    SitepairError."""
    async with _database(settings) as database:
        pruner = Pruner(database)
        cut_off = await pruner.cut_off(age)
        tell(cut_off, Pruned())
        if dry_run:
            tell(cut_off, await pruner.foretell(cut_off))
            return
        async with aclosing(pruner.prune(cut_off)) as steps:
            async for step in steps:
                tell(cut_off, step)


async def discard(data_dir: Path) -> None:
    """Remove what a service left in `data_dir`, its own PostgreSQL included, running or not."""
    if (data_dir / "postgres" / "data" / "postmaster.pid").exists():
        # A killed service leaves its server behind; the last one out stops it.
        async with embedded_postgres(data_dir):
            pass
    await asyncio.to_thread(shutil.rmtree, data_dir, ignore_errors=True)


async def database_url(stack: AsyncExitStack, settings: Settings) -> tuple[str, str]:
    """Where the database is, and whose it is; our own one runs until `stack` is closed. Raises
    OwnDatabaseFailed."""
    if settings.database_url is not None:
        return settings.database_url, "external"
    own = embedded_postgres(settings.data_dir, on_wait=_told_of_start(settings))
    return await stack.enter_async_context(own), "own"


async def keep_own_database(settings: Settings) -> None:
    """Start our own PostgreSQL again whenever it has died, until cancelled. Raises
    OwnDatabaseFailed."""
    await keep_serving(settings.data_dir, on_wait=_told_of_start(settings))


async def refuse_other_schema(url: str) -> SchemaState:
    """Where the schema stands. Raises SitepairError when it is older than this release, or another
    application's; one that is newer is what a process serves while others are being upgraded."""
    with _named(url):
        state = await current_state(url)
    if state.standing is Standing.BEHIND:
        raise SitepairError(
            f"The database's schema is at {state.found or 'nothing'}, this release needs "
            f"{state.expected}: run `sitepair migrate` first."
        )
    return state


def _told_of_start(settings: Settings) -> Callable[[float], None]:
    def tell(waited_s: float) -> None:
        emit(DatabaseStarting(data_dir=str(settings.data_dir), waited_s=waited_s))

    return tell


def _refuse_newer_schema(state: SchemaState) -> None:
    if state.standing is Standing.AHEAD:
        raise SitepairError(
            f"The database's schema is at {state.found}, which is of a newer release than this one "
            f"({state.expected}): use the newer `sitepair`. Nothing was done."
        )


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    """For a command that works on what is there already, whether the service runs or not."""
    if settings.database_url is None and not _has_own_database(settings.data_dir):
        nowhere = f"there is no database in {settings.data_dir}"
        raise InvalidSettings(
            [f"SITEPAIR_DATA_DIR: {nowhere}, and SITEPAIR_DATABASE_URL is not set"]
        )
    async with AsyncExitStack() as stack:
        url, _ = await database_url(stack, settings)
        _refuse_newer_schema(await refuse_other_schema(url))
        database = await stack.enter_async_context(Database.connect(url))
        with _named(url):
            yield database


def _has_own_database(data_dir: Path) -> bool:
    try:
        return (data_dir / "postgres" / "data").exists()
    except PermissionError:
        return True  # Whoever opens it says whose it is.


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Within, a database that does not answer is told by its address, which has no password."""
    try:
        yield
    except NotOurs:
        raise
    except StoreUnavailable as error:
        shown = DatabaseUrl.parse(url).shown
        raise StoreUnavailable(f"The database at {shown} does not answer: {error}") from error
