"""The calls one makes before pairing: what is it, is it ready, what time has it (h4-api 8)."""

from typing import TYPE_CHECKING

from simulator import errors, logins
from simulator.appliance import Appliance
from simulator.pairing import is_address
from simulator.reply import Refused, Reply
from simulator.tasks import Outcome, view
from simulator.wire import ManagerHealthInfo, WorkflowInfo

if TYPE_CHECKING:
    from simulator.world import Visit, World

_PRODUCT = "VMware Cloud Director Availability"
_BUILD_DATE = 1_764_547_200_000
_YEAR_MS = 365 * 86_400_000
_GUIDE = b"<!DOCTYPE html><html><head><title>API guide</title></head><body></body></html>"


def about(_world: "World", visit: "Visit", now: int) -> Reply:
    """GET /diagnostics/about; whether it is open to all is unknown."""
    if visit.appliance.knobs.about_needs_token:
        logins.admit(visit, now)
    body = {
        "serviceType": "MANAGER",
        "productName": _PRODUCT,
        "buildVersion": visit.appliance.knobs.build_version,
        "buildDate": _BUILD_DATE,
    }
    return Reply(200, body)


def check(world: "World", visit: "Visit", now: int) -> Reply:
    """POST /diagnostics/health; a GET in older versions. A task, like pairing."""
    appliance = visit.appliance
    if visit.call.method != appliance.knobs.health_method:
        raise Refused(405, errors.bad_request(f"{visit.call.method} is not allowed here."))
    workflow = WorkflowInfo("health", "MANAGER", appliance.site_id, appliance.name)
    task = world.start(visit, workflow, lambda end: Outcome(_health(appliance, end)), now)
    return Reply(202, view(task, appliance.look(now), with_site=False))


def config(_world: "World", visit: "Visit", _now: int) -> Reply:
    """GET /config, vCenter flavour: `id` is what peers see as theirs."""
    identity = visit.appliance.identity
    body = {
        "id": identity.site_id,
        "site": identity.name,
        "lsUrl": f"https://vcenter.{identity.name}.example.test:443/lookupservice/sdk",
        "lsThumbprint": visit.appliance.thumbprint,
        "tunnelUrl": f"https://tn-{identity.tunnel_id}.tnexus.io:8047",
        "tunnelCertificate": identity.tunnel_cert,
    }
    return Reply(200, body)


def is_configured(_world: "World", visit: "Visit", _now: int) -> Reply:
    """GET /config/is-configured."""
    return Reply(200, {"isConfigured": visit.appliance.knobs.configured})


def license_(_world: "World", visit: "Visit", now: int) -> Reply:
    """GET /license."""
    is_licensed = visit.appliance.knobs.licensed
    key = "00000-XXXXX-XXXXX-XXXXX-00000" if is_licensed else None
    return Reply(200, {"key": key, "isLicensed": is_licensed, "expirationDate": now + _YEAR_MS})


def own_certificate(_world: "World", visit: "Visit", now: int) -> Reply:
    """GET /config/certificate: of the management address."""
    return Reply(200, _certificate(visit.appliance.thumbprint, visit.appliance, now))


def remote_certificate(world: "World", visit: "Visit", now: int) -> Reply:
    """GET /config/remote-certificate?url=: what this appliance sees of a peer to be."""
    url = visit.call.query.get("url", "")
    if not is_address(url):
        raise Refused(400, errors.bad_user_input(f"Invalid url: {url}", "url"))
    target = world.resolve(url)
    if target is None or target.is_dark:
        raise Refused(500, errors.unreachable(url))
    return Reply(200, _certificate(target.api_thumbprint, target, now))


def guide(_world: "World", _visit: "Visit", _now: int) -> Reply:
    """GET /docs/api-guide.html: open to all, so one can ask whether the service is up."""
    return Reply(200, _GUIDE, content_type="text/html;charset=UTF-8")


def _health(appliance: Appliance, end: int) -> ManagerHealthInfo:
    identity = appliance.identity
    return ManagerHealthInfo(
        product_name=_PRODUCT,
        build_version=appliance.knobs.build_version,
        instance_id=identity.site_id,
        current_time=end + appliance.offset_ms,
        address=identity.management_url,
        service_boot_timestamp=appliance.booted_ms + appliance.offset_ms,
        appliance_boot_timestamp=appliance.booted_ms + appliance.offset_ms,
    )


def _certificate(thumbprint: str, appliance: Appliance, now: int) -> dict[str, object]:
    return {
        "certificate": {
            "thumbPrint": thumbprint,
            "issuedTo": {"CN": appliance.name},
            "expiresOn": now + _YEAR_MS,
        }
    }
