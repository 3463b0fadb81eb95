"""What the tests of the command line share."""

import asyncio

import pytest

from service.cli import following


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str]:
    """What whoever follows is told about the queue, which is at once if nothing has begun."""
    told = asyncio.Queue[str]()
    monkeypatch.setattr(following, "_QUEUED_S", 0.0)
    monkeypatch.setattr(following, "tell", told.put_nowait)
    return told
