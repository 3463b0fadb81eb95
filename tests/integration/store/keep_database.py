"""A process that uses our own PostgreSQL until its standard input ends: to be killed by tests."""

import asyncio
import sys
from pathlib import Path

from service.store.embedded import embedded_postgres
from service.store.installation import OwnDatabaseFailed


async def keep(data_dir: Path) -> None:
    """Print the URL and stay."""
    async with embedded_postgres(data_dir) as url:
        print(url, flush=True)  # noqa: T201 - what the test reads
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    try:
        asyncio.run(keep(Path(sys.argv[1])))
    except OwnDatabaseFailed as error:
        sys.exit(str(error))
