"""Ctrl-C, wherever it comes: nobody is shown the inside of a program that did what it was told."""

import asyncio
import os
import signal
from pathlib import Path

from tests.integration.cli.commands import start


async def test_while_modules_load_it_ends_the_process_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text(
        "import signal\nprint('loading', flush=True)\nsignal.pause()"
    )
    process = await start(["serve"], {"PYTHONPATH": str(tmp_path)})
    assert process.stdout is not None
    assert await process.stdout.readline() == b"loading\n"
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (-signal.SIGINT, b"")


async def test_while_a_command_waits_for_its_input_it_ends_with_130(tmp_path: Path) -> None:
    names = tmp_path / "sites.csv"
    os.mkfifo(names)
    process = await start(["batch", str(names)], {})
    # Opened as soon as somebody reads it.
    writer = await asyncio.to_thread(names.open, "w")
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    writer.close()
    assert (process.returncode, err) == (130, b"")
