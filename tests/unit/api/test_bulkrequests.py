"""Bodies of batches that wait for their turn."""

import json
import tracemalloc
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from service.api.bulkrequests import of_json
from service.api.items import Judge
from service.api.uploads import Spool
from service.store.intake import PairingRequest
from tests.unit.api.asking import CONTRACT

MB = 1_000_000
OPERATION = CONTRACT.operations["POST", "/v1/batches"]
NAMES = [f"site-{number}" for number in range(300)]
ITEMS = [{"appliances": couple, "description": "x" * 40} for couple in combinations(NAMES, 2)]


@pytest.mark.parametrize("body", [{"items": ITEMS}, {"topology": {"mesh": NAMES}}])
def test_little_of_one_that_waits_is_in_memory(tmp_path: Path, body: Any) -> None:
    content = json.dumps(body).encode()
    spools = [Spool(tmp_path, 8 * MB) for _ in range(5)]
    for spool in spools:
        spool.add(content)
    judge = Judge(CONTRACT.pairing_request)
    tracemalloc.start()
    waiting = [of_json(spool, OPERATION, judge, is_atomic=False) for spool in spools]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {each.total for each in waiting} == {len(ITEMS)}
    assert held < MB
    for each in waiting:
        couples = [item.appliances for item in each.items() if isinstance(item, PairingRequest)]
        assert couples == [*combinations(NAMES, 2)]
    for spool in spools:
        spool.close()
