"""Calls made up from `openapi.yaml`, right ones and wrong ones, against the running service."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Protocol

from tests.contract.hooks import BATCH_VARIABLE, EVENT_VARIABLE, NAMES, PAIRING_VARIABLE
from tests.support.contract import contract_client

ROOT = Path(__file__).parents[2]
SEED = os.environ.get("SITEPAIR_CONTRACT_SEED", "4711")
"""Printed with whatever fails; set the variable to try another one."""

EXAMPLES = 25
# A pairing of appliances that are paired already or unknown is refused for good reasons that no
# schema can tell (schemathesis#3516, #2906).
SWITCHED_OFF = "positive_data_acceptance"
# It never ends; tests/unit/api has what it answers, to wrong calls too.
ENDLESS = "streamAuditEvents"


class Service(Protocol):
    """What is needed of the running service."""

    @property
    def url(self) -> str:
        """Where it listens."""

    @property
    def token(self) -> str:
        """What lets one in."""


async def test_no_call_that_can_be_made_up_breaks_the_contract(
    service: Service, tmp_path: Path
) -> None:
    pairing = await _some_pairing(service)
    known = {
        PAIRING_VARIABLE: pairing,
        BATCH_VARIABLE: await _some_batch(service),
        EVENT_VARIABLE: await _some_event(service),
    }

    code, report = await _schemathesis(service, tmp_path, known)

    assert code == 0, report
    assert "Tested: 19" in report, report


async def _some_pairing(service: Service) -> str:
    """Register what the hooks know; the id of a pairing."""
    async with contract_client(service.url, service.token) as client:
        for name in NAMES:
            body: dict[str, Any] = {
                "managementUrl": f"https://{name}.invalid",
                "apiUrl": f"https://{name}.invalid:8048/",
                "apiThumbprint": "SHA-256" + ":AB" * 32,
                "credentials": {"type": "localUser", "localUser": "root", "localPassword": "x"},
            }
            answer = await client.call("PUT", f"/v1/appliances/{name}", json=body)
            assert answer.status == 201, answer
        body = {"appliances": list(NAMES[:2]), "timeoutSeconds": 1}
        answer = await client.call("POST", "/v1/pairings", json=body)
        assert answer.status == 202, answer
        return str(answer.json["id"])


async def _some_batch(service: Service) -> str:
    """The id of a batch."""
    async with contract_client(service.url, service.token) as client:
        body = {"items": [{"appliances": list(NAMES[1:]), "timeoutSeconds": 1}]}
        answer = await client.call("POST", "/v1/batches", json=body)
        assert answer.status == 202, answer
        return str(answer.json["id"])


async def _some_event(service: Service) -> str:
    """The id of an event."""
    async with contract_client(service.url, service.token) as client:
        while not (items := (await client.call("GET", "/v1/audit?limit=1")).json["items"]):
            pass
        return str(items[0]["id"])


async def _schemathesis(
    service: Service, directory: Path, environment: dict[str, str]
) -> tuple[int, str]:
    """Its exit code and report."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        str(ROOT / "openapi.yaml"),
        f"--url={service.url}",
        f"--header=Authorization: Bearer {service.token}",
        f"--seed={SEED}",
        f"--max-examples={EXAMPLES}",
        f"--exclude-checks={SWITCHED_OFF}",
        f"--exclude-operation-id={ENDLESS}",
        "--request-timeout=30",
        "--generation-database=none",
        "--no-color",
        cwd=directory,
        env={
            **os.environ,
            **environment,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.contract.hooks",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(100):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.wait_for(process.wait(), 10)
    return process.returncode or 0, output.decode()
