"""Tables that commands show, with what others wrote in them."""

from tests.integration.cli.commands import sitepair
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
