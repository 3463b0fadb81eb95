"""Tables that commands show, with what others wrote in them."""

import signal

from tests.integration.cli.commands import sitepair, start
from tests.support.service import ServiceUnderTest

Remote = dict[str, str]

NASTY = "closed [/b] [red]z[/red] \x1b[2J"


async def test_what_callers_wrote_is_shown_as_it_is(
    service: ServiceUnderTest, remote: Remote
) -> None:
    url = "https://[fd00::1]:443/"
    await service.register(service.fleet["site-1"], description=NASTY)
    await service.register(service.fleet["site-2"], apiUrl=url)
    listed = await sitepair("appliance", "list", **remote)
    assert (listed.status, listed.err) == (0, ""), listed
    assert r"closed [/b] [red]z[/red] \x1b[2J" in listed.out
    assert url in listed.out


async def test_what_an_output_has_no_characters_for_is_spelt_out(
    service: ServiceUnderTest, remote: Remote
) -> None:
    await service.register(service.fleet["site-1"], description="Plze\u0148")
    listed = await sitepair("appliance", "list", PYTHONIOENCODING="ascii", **remote)
    assert (listed.status, listed.err) == (0, ""), listed
    assert "Plze\\u0148" in listed.out


async def test_simulated_appliances_can_be_called_as_told() -> None:
    process = await start(["simulate", "--appliances", "1"], {})
    assert process.stdout is not None
    _, row = [await process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    await process.communicate()
    name, management_url, api_url, user, password = row.decode().split()
    assert (name, user, process.returncode) == ("site-1", "root", 0)
    assert management_url.startswith("https://127.0.0.1:")
    assert api_url.startswith("https://")
    assert "\u2026" not in password
