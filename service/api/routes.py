"""Which call is served by what."""

import asyncio

from aiohttp import web

from service.api import appliances, audit, batches, contract, health, pairings
from service.api.bodies import LIMIT
from service.api.middleware import accompanied, admitted
from service.api.paging import Cursors
from service.api.parts import CONTRACT, CURSORS, PARTS, PROCESS, STOPPING, ApiParts, ProcessParts

OPERATIONS = {
    "putAppliance": appliances.put_appliance,
    "getAppliance": appliances.get_appliance,
    "deleteAppliance": appliances.delete_appliance,
    "listAppliances": appliances.list_appliances,
    "checkAppliance": appliances.check_appliance,
    "createPairing": pairings.create_pairing,
    "getPairing": pairings.get_pairing,
    "listPairings": pairings.list_pairings,
    "listPairingEvents": pairings.list_pairing_events,
    "createBatch": batches.create_batch,
    "getBatch": batches.get_batch,
    "cancelBatch": batches.cancel_batch,
    "listAuditEvents": audit.list_audit_events,
    "streamAuditEvents": audit.stream_audit_events,
    "cancelPairing": pairings.cancel_pairing,
    "retryPairing": pairings.retry_pairing,
    "getHealth": health.get_health,
    "getReadiness": health.get_readiness,
    "getMetrics": health.get_metrics,
    "getContract": health.get_contract,
}
"""What serves each operation of the contract."""


_OF_EVERY_PROCESS = frozenset({"getHealth", "getReadiness", "getMetrics"})


def build(process: ProcessParts, parts: ApiParts) -> web.Application:
    """The application; its paths and methods are the contract's, every one of them.

    Serve it with `serving.ApiRunner`, so that bytes which are no HTTP get a problem too.
    """
    app = _with_routes(process, frozenset(OPERATIONS))
    app[PARTS] = parts
    app[CURSORS] = Cursors(parts.cursor_keys)
    app[STOPPING] = asyncio.Event()
    app.on_shutdown.append(_stop_waiting)
    return app


def build_without_api(process: ProcessParts) -> web.Application:
    """What a process serves of the contract that is none of its callers': how it is doing."""
    return _with_routes(process, _OF_EVERY_PROCESS)


def _with_routes(process: ProcessParts, served: frozenset[str]) -> web.Application:
    app = web.Application(middlewares=[accompanied, admitted], client_max_size=LIMIT)
    app[PROCESS] = process
    app[CONTRACT] = contract.load()
    for (method, path), operation in app[CONTRACT].operations.items():
        methods = ["GET", "HEAD"] if method == "GET" else [method]
        for each in methods if operation.id in served else ():
            app.router.add_route(each, path, OPERATIONS[operation.id])
    return app


async def _stop_waiting(app: web.Application) -> None:
    """Requests that wait for a pairing answer now, before the server closes their connections."""
    app[STOPPING].set()
