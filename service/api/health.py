"""The calls about the service itself."""

from aiohttp import web

from service.api import responses
from service.api.parts import CONTRACT, PROCESS
from service.api.refusals import NotReady
from service.observe.metrics import MEDIA_TYPE


async def get_health(_request: web.Request) -> web.Response:
    """The process lives, or nobody would answer."""
    return responses.respond({"status": "ok"})


async def get_readiness(request: web.Request) -> web.Response:
    """Whether requests can be served."""
    objection = await request.app[PROCESS].objection()
    if objection is not None:
        raise NotReady(objection)
    return responses.respond({"status": "ok"})


async def get_metrics(request: web.Request) -> web.Response:
    """What this process counted since it started."""
    headers = {"Content-Type": MEDIA_TYPE}
    return web.Response(body=request.app[PROCESS].metrics.text(), headers=headers)


async def get_contract(request: web.Request) -> web.Response:
    """`openapi.yaml`, as it judges."""
    return web.Response(body=request.app[CONTRACT].text, content_type="application/yaml")
