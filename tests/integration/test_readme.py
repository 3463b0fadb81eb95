"""What the README tells a newcomer to type works as it stands."""

import asyncio
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.cli.demo import EGRESS
from service.settings import Settings
from tests.support.service import fleet_of, service_over

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)


async def shell(script: str, environment: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script.replace("curl -sS", "curl -sS --fail-with-body"),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{script}\n{output.decode()}"
    return output.decode()


def documents(answers: str) -> list[Any]:
    """The JSON objects that stand one after the other in `answers`."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(answers.rstrip()):
        document, at = decoder.raw_decode(answers, at)
        found.append(document)
    return found


async def test_each_example_works_in_its_order(settings: Settings) -> None:
    assert len(EXAMPLES) == 13
    permissive = replace(settings, egress_allow=EGRESS)
    async with fleet_of(3) as fleet, service_over(permissive, fleet) as service:
        await service.register()
        for appliance in fleet.appliances:
            appliance.turn(task_ms=[2_000, 2_000])  # so that what is to be canceled still runs
        environment = {"SITEPAIR_URL": service.url, "SITEPAIR_TOKEN": service.token}
        answers = [await shell(example, environment) for example in EXAMPLES]

    ready, registered, listed, checked, asked, found, *more, counted, removed = answers
    repaired, canceled, bulk, done, followed = more
    assert json.loads(ready)["status"] == "ok"
    assert json.loads(registered)["name"] == "prague"
    assert len(json.loads(listed)["items"]) == 4
    assert json.loads(checked)["ok"] is True
    assert json.loads(asked)["operationID"] == "order-4711"
    assert '"state":"SUCCEEDED"' in found.replace(" ", "")
    assert "PairingSucceeded" in found
    assert json.loads(repaired)["operation"] == "repair"
    assert json.loads(repaired)["state"] == "SUCCEEDED"
    assert [each["state"] for each in documents(canceled)][1:] == [
        "CANCELED",
        "QUEUED",
        "SUCCEEDED",
    ]
    batch, failed = documents(bulk)
    assert batch["accepted"] == batch["counts"]["SUCCEEDED"] == batch["total"] == 3
    assert failed["items"] == []
    assert "sitepair_pairings_ended_total{" in counted
    assert json.loads(done)["items"][0]["type"] == "PairingAccepted"
    assert "event: PairingAccepted" not in followed
    assert "event: PairingSucceeded" in followed
    assert removed == ""
