"""What an error means in HTTP."""

import json
from uuid import UUID

import pytest
from aiohttp import web

from service.api import refusals as r
from service.api.faults import Fault
from service.api.problems import problem_of, respond
from service.domain import errors as e
from service.domain.batch import Rejection
from service.domain.ids import ApplianceName, OperationId, PairingId
from service.store.errors import Locked, RolledBack, following
from service.store.vault import Sealed

PAIRING = PairingId(UUID("019a3f5e-7c1d-7a52-9a55-3c0d7e6f2b10"))
NAME = ApplianceName("prague")


MEANINGS: list[tuple[Exception, int, str]] = [
    (r.HeadTooLong(8190, 128), 400, "MalformedRequest"),
    (r.MalformedBody("no"), 400, "MalformedBody"),
    (r.InvalidOperationId(), 400, "InvalidOperationID"),
    (r.InvalidRequest([Fault("no", parameter="limit")]), 400, "InvalidParameters"),
    (r.NotAuthenticated(), 401, "NotAuthenticated"),
    (r.UnknownPath(), 404, "NotFound"),
    (web.HTTPNotFound(), 404, "NotFound"),
    (e.UnknownAppliance(NAME), 404, "UnknownAppliance"),
    (e.UnknownPairing(), 404, "UnknownPairing"),
    (e.UnknownBatch(), 404, "UnknownBatch"),
    (web.HTTPMethodNotAllowed("POST", ["GET"]), 405, "MethodNotAllowed"),
    (r.BodyTooSlow(30), 408, "BodyTooSlow"),
    (e.ApplianceBusy(NAME), 409, "ApplianceBusy"),
    (e.ApplianceExists(NAME), 409, "ApplianceExists"),
    (e.NotRetryable(PAIRING, "RUNNING"), 409, "NotRetryable"),
    (e.PairingActive(PAIRING), 409, "PairingActive"),
    (e.PairingOver(PAIRING, "SUCCEEDED"), 409, "PairingOver"),
    (e.Superseded(PAIRING, PAIRING), 409, "Superseded"),
    (r.ApplianceGone(NAME), 409, "UnknownAppliance"),
    (Sealed("'site-1'"), 409, "CredentialsSealed"),
    (r.BodyTooLarge(5), 413, "BodyTooLarge"),
    (r.UnsupportedMediaType("application/json"), 415, "UnsupportedMediaType"),
    (r.UnsupportedEncoding(), 415, "UnsupportedEncoding"),
    (r.InvalidRequest([Fault("no", "/a")]), 422, "InvalidBody"),
    (r.InvalidRequest([Fault("no", ""), Fault("no", parameter="x")]), 422, "InvalidBody"),
    (r.UnknownAppliances([Fault("no", "/a")]), 422, "UnknownAppliance"),
    (e.BatchRejected(2, 1, [Rejection(1, "InvalidBody", "no")]), 422, "BatchRejected"),
    (e.IdempotencyKeyReused(), 422, "IdempotencyKeyReused"),
    (e.StoreUnavailable("secret host"), 503, "StoreUnavailable"),
    (RolledBack("secret"), 503, "StoreUnavailable"),
    (r.NoRoom("No space left on device"), 503, "NoRoom"),
    (r.NotReady("a"), 503, "NotReady"),
    (e.SitepairError("secret"), 500, "InternalError"),
    (ExceptionGroup("secret", [ValueError("secret")]), 500, "InternalError"),
    (KeyError("secret"), 500, "InternalError"),
]


@pytest.mark.parametrize(("error", "status", "code"), MEANINGS)
def test_each_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error)

    assert (problem.status, problem.code) == (status, code)
    assert "secret" not in problem.detail


def test_what_was_undone_is_told_from_what_is_not_known() -> None:
    with pytest.raises(RolledBack) as doubtful, following(in_doubt=True):
        raise Locked("secret")
    details = [
        problem_of(each).detail
        for each in (Locked(""), RolledBack(""), doubtful.value, e.StoreUnavailable(""))
    ]

    assert ["Nothing was changed" in detail for detail in details] == [True, True, False, False]
    assert ["not known" in detail for detail in details] == [False, False, True, True]


def test_every_error_that_a_request_can_end_in_has_a_meaning() -> None:
    leaves = {*e.RequestError.__subclasses__(), *r.InvalidRequest.__subclasses__()}

    assert leaves <= {type(error) for error, _, _ in MEANINGS}


@pytest.mark.parametrize(
    ("error", "name", "value"),
    [
        (r.NotAuthenticated(), "WWW-Authenticate", "Bearer"),
        (web.HTTPMethodNotAllowed("POST", ["GET", "PUT"]), "Allow", "GET,PUT"),
        (e.StoreUnavailable(""), "Retry-After", "1"),
        (r.NoRoom(""), "Retry-After", "1"),
        (r.NotReady("a"), "Retry-After", "1"),
        (e.PairingActive(PAIRING), "Location", f"/v1/pairings/{PAIRING}"),
        (e.Superseded(PairingId(UUID(int=1)), PAIRING), "Location", f"/v1/pairings/{PAIRING}"),
        (r.UnsupportedEncoding(), "Accept-Encoding", "identity"),
    ],
)
def test_some_say_in_a_header_what_to_do(error: Exception, name: str, value: str) -> None:
    assert problem_of(error).headers[name] == value


def test_a_problem_is_answered_with_all_its_members() -> None:
    error = r.InvalidRequest([Fault("is required", "/a"), Fault("is too much", parameter="limit")])

    response = respond(problem_of(error), OperationId("order-4711"))

    assert (response.status, response.content_type) == (422, "application/problem+json")
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {
        "type": "urn:sitepair:problem:InvalidBody",
        "title": "The body is not valid",
        "status": 422,
        "detail": "2 things are wrong with the request; see errors.",
        "code": "InvalidBody",
        "operationID": "order-4711",
        "errors": [
            {"pointer": "/a", "detail": "is required"},
            {"parameter": "limit", "detail": "is too much"},
        ],
    }
