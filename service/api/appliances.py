"""The calls about appliances."""

from collections.abc import Sequence

from aiohttp import web

from service.api import requests, responses, validation
from service.api.middleware import author_of
from service.api.parts import CURSORS, PARTS, ApiParts
from service.domain.errors import UnknownAppliance
from service.domain.ids import ApplianceName, is_appliance_name
from service.domain.registration import ApplianceHealth, Registration
from service.store.vault import Sealed

MOST = 1000
"""How many are listed at once, also if nobody says how many: few have more."""


async def put_appliance(request: web.Request) -> web.Response:
    """Register, or replace: 201 or 200."""
    parts = request.app[PARTS]
    wanted = await validation.read(request)
    spec = requests.appliance_spec(wanted, request.match_info["name"], parts.egress_forbids)
    registration, created = await parts.appliances.put(spec, author_of(request))
    (shown,) = await _shown(parts, [registration])
    return responses.respond(
        shown,
        status=201 if created else 200,
        headers={"Location": f"/v1/appliances/{spec.name}"} if created else None,
    )


async def get_appliance(request: web.Request) -> web.Response:
    """One, without its secrets."""
    (await validation.read(request)).insist()
    parts = request.app[PARTS]
    (shown,) = await _shown(parts, [await parts.appliances.get(_name(request))])
    return responses.respond(shown)


async def list_appliances(request: web.Request) -> web.Response:
    """One page, by name."""
    wanted = await validation.read(request)
    limit = requests.limit_of(wanted, MOST)
    parts, cursors = request.app[PARTS], request.app[CURSORS]
    after = requests.behind(wanted, "cursor", cursors.appliance, "was not given by this list")
    wanted.insist()
    # One more than asked for tells whether there is another page.
    found = await parts.appliances.page(limit + 1, after)
    page = found[:limit]
    more = cursors.after_appliance(page[-1].spec.name) if len(found) > limit else None
    return responses.respond({"items": await _shown(parts, page), "nextCursor": more})


async def delete_appliance(request: web.Request) -> web.Response:
    """Take one out of the registry."""
    (await validation.read(request)).insist()
    await request.app[PARTS].appliances.delete(_name(request), author_of(request))
    return web.Response(status=204)


async def check_appliance(request: web.Request) -> web.Response:
    """Look whether one could be paired now."""
    (await validation.read(request)).insist()
    parts = request.app[PARTS]
    registration = await parts.appliances.get(_name(request))
    if registration.is_sealed:
        raise Sealed(repr(registration.spec.name))
    report = await parts.check(registration)
    return responses.respond(responses.check_report(registration.spec.name, report))


async def _shown(parts: ApiParts, registered: Sequence[Registration]) -> list[responses.Wire]:
    health = await parts.health.health_of([each.spec.name for each in registered])
    # One that was removed meanwhile is shown as it was, of whom nothing is known.
    nothing = ApplianceHealth()
    return [responses.appliance(each, health.get(each.spec.name, nothing)) for each in registered]


def _name(request: web.Request) -> ApplianceName:
    name = request.match_info["name"]
    if not is_appliance_name(name):
        raise UnknownAppliance  # Without the name: what is not well-formed is not repeated.
    return ApplianceName(name)
