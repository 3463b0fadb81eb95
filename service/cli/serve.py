"""`sitepair serve` and `sitepair migrate`: run the service."""

import asyncio
import os
from typing import Annotated

from cyclopts import Parameter

from service.app import serve_until_stopped
from service.cli.status import Exit, run, say, tell
from service.descriptors import AcceptWatch, take_all
from service.garbage import collect_seldom
from service.observe.logging import configure
from service.settings import from_environment
from service.upkeep import migrate as migrate_database


def serve(
    *,
    api_only: Annotated[bool, Parameter(negative="")] = False,
    worker_only: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run the API and a worker until SIGTERM or Ctrl-C.

    Parameters
    ----------
    api_only
        Accept and answer requests, but drive no pairings.
    worker_only
        Drive pairings, but serve no API; health and metrics only at SITEPAIR_METRICS_LISTEN.
    """
    if api_only and worker_only:
        tell("--api-only and --worker-only exclude each other.")
        return Exit.REFUSED
    return run(_serve(api=not worker_only, worker=not api_only))


async def _serve(*, api: bool, worker: bool) -> Exit:
    settings = from_environment(os.environ)
    configure(level=settings.log_level)
    collect_seldom()
    take_all()
    asyncio.get_running_loop().set_exception_handler(AcceptWatch())
    await serve_until_stopped(settings, api=api, worker=worker)
    return Exit.OK


def migrate() -> int:
    """Upgrade the database to the schema of this release.

    Exit status: 0 it has that schema now, 1 refused, 2 the configuration is wrong, 3 the database
    does not answer.
    """
    return run(_migrate())


async def _migrate() -> Exit:
    settings = from_environment(os.environ)
    configure(level=settings.log_level)
    say(await migrate_database(settings))
    return Exit.OK
