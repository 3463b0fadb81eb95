"""What the README tells a newcomer to type works as it stands."""

import asyncio
import json
import os
import re
from dataclasses import replace
from pathlib import Path

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


async def test_each_example_works_in_its_order(settings: Settings) -> None:
    assert len(EXAMPLES) == 7
    permissive = replace(settings, egress_allow=EGRESS)
    async with fleet_of(3) as fleet, service_over(permissive, fleet) as service:
        await service.register()
        environment = {"SITEPAIR_URL": service.url, "SITEPAIR_TOKEN": service.token}
        answers = [await shell(example, environment) for example in EXAMPLES]

    ready, registered, listed, checked, asked, found, removed = answers
    assert json.loads(ready)["status"] == "ok"
    assert json.loads(registered)["name"] == "prague"
    assert len(json.loads(listed)["items"]) == 4
    assert json.loads(checked)["ok"] is True
    assert json.loads(asked)["operationID"] == "order-4711"
    assert '"state":"SUCCEEDED"' in found.replace(" ", "")
    assert "PairingSucceeded" in found
    assert removed == ""
