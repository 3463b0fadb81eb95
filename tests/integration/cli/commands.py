"""Commands as a user types them, in processes of their own."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

SITEPAIR = [sys.executable, "-m", "service"]


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that is over."""

    status: int | None
    out: str
    err: str


async def start(
    arguments: Sequence[str],
    environment: dict[str, str],
    program: Sequence[str] = SITEPAIR,
    stdout: int = asyncio.subprocess.PIPE,
) -> asyncio.subprocess.Process:
    """A command that goes on. It has no terminal, whoever runs the tests: it could ask there. What
    it writes is buffered, as it is for most, so that some may be left when it ends."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SITEPAIR_")}
    kept.pop("PYTHONUNBUFFERED", None)
    return await asyncio.create_subprocess_exec(
        *program,
        *arguments,
        env={**kept, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def sitepair(*arguments: str, stdin: str = "", **environment: str) -> Ended:
    """A command at its end."""
    process = await start(arguments, environment)
    out, err = await process.communicate(stdin.encode())
    return Ended(process.returncode, out.decode(), err.decode())
