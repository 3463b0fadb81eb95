"""What becomes of each outcome of a call. The table in `classify` is the rule."""

import pytest

from service.appliance.classify import (
    SessionExpired,
    answered_at_ms,
    good,
    judge,
    retry_after_s,
)
from service.appliance.exchange import Answer, Failure, FailureKind
from service.domain.errors import Ambiguous, ApplianceError, NotSent, Rejected, Unheard
from service.domain.thumbprint import thumbprint_of
from tests.unit.appliance.values import an_answer, as_json, sample

NOT_FOUND = as_json({"code": "SiteNotFound", "msg": "gone", "args": ["b"]})

BEFORE_SENDING = [
    FailureKind.UNREACHABLE,
    FailureKind.CONNECT_TIMEOUT,
    FailureKind.TLS_FAILED,
    FailureKind.USED_UP,
]
AFTER_SENDING = [
    FailureKind.CUT,
    FailureKind.SILENT,
    FailureKind.GARBLED,
    FailureKind.TOO_LARGE,
    FailureKind.ENCODED,
]
FOR_SOMEBODY = [
    FailureKind.PIN_MISMATCH,
    FailureKind.UNTRUSTED,
    FailureKind.FORBIDDEN,
    FailureKind.INVALID_URL,
]


def test_every_way_to_fail_is_in_one_of_three_groups() -> None:
    groups = [*BEFORE_SENDING, *AFTER_SENDING, *FOR_SOMEBODY]
    assert sorted(kind.name for kind in groups) == sorted(kind.name for kind in FailureKind)


@pytest.mark.parametrize("mutating", [True, False])
@pytest.mark.parametrize("kind", BEFORE_SENDING)
def test_what_failed_before_sending_was_not_sent(kind: FailureKind, mutating: bool) -> None:
    assert isinstance(judge(Failure(kind, "why"), mutating=mutating), NotSent)


@pytest.mark.parametrize("kind", AFTER_SENDING)
def test_what_failed_after_sending_is_ambiguous_if_it_could_change_something(
    kind: FailureKind,
) -> None:
    assert type(judge(Failure(kind, "why"), mutating=True)) is Ambiguous
    assert type(judge(Failure(kind, "why"), mutating=False)) is Unheard


@pytest.mark.parametrize("mutating", [True, False])
@pytest.mark.parametrize("kind", FOR_SOMEBODY)
def test_what_somebody_has_to_see_to_is_rejected(kind: FailureKind, mutating: bool) -> None:
    assert type(judge(Failure(kind, "why"), mutating=mutating)) is Rejected


@pytest.mark.parametrize(
    ("status", "mutating", "looking"),
    [
        (408, NotSent, NotSent),
        (429, NotSent, NotSent),
        (503, NotSent, NotSent),
        (500, Ambiguous, NotSent),
        (501, Ambiguous, Rejected),
        (502, Ambiguous, NotSent),
        (504, Ambiguous, NotSent),
        (599, Ambiguous, NotSent),
        (999, Ambiguous, NotSent),
        (101, Ambiguous, NotSent),
        (301, Rejected, Rejected),
        (304, Rejected, Rejected),
        (307, Rejected, Rejected),
        (400, Rejected, Rejected),
        (401, Rejected, Rejected),
        (403, Rejected, Rejected),
        (404, Rejected, Rejected),
        (406, Rejected, Rejected),
        (409, Rejected, Rejected),
        (422, Rejected, Rejected),
    ],
)
def test_every_status_has_its_meaning(
    status: int, mutating: type[ApplianceError], looking: type[ApplianceError]
) -> None:
    assert type(judge(an_answer(status), mutating=True)) is mutating
    assert type(judge(an_answer(status), mutating=False)) is looking


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_good_answer_stays_one(status: int) -> None:
    answer = an_answer(status, b"{}")
    assert judge(answer, mutating=True) is answer
    assert good(answer, mutating=True) is answer


def test_an_ended_session_is_known_by_its_header() -> None:
    ended = an_answer(401, www_authenticate="Authentication Token Required")
    assert isinstance(judge(ended, mutating=True), SessionExpired)
    refused = an_answer(401, www_authenticate='Basic realm="x"')
    assert isinstance(judge(refused, mutating=True), Rejected)


def test_a_session_that_ends_again_at_once_is_worth_another_try() -> None:
    ended = an_answer(
        401, sample("api_error.json"), www_authenticate="authentication token required"
    )
    with pytest.raises(NotSent) as caught:
        good(ended, mutating=False)
    assert caught.value.error.code == "Forbidden"


def test_the_appliances_own_words_are_kept() -> None:
    verdict = judge(an_answer(404, NOT_FOUND), mutating=True)
    assert isinstance(verdict, Rejected)
    assert (verdict.status, verdict.error.code, verdict.error.args) == (404, "SiteNotFound", ("b",))


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"code": 0.0}'[:5]])
def test_without_words_the_status_names_the_error(body: bytes) -> None:
    verdict = judge(an_answer(404, body), mutating=True)
    assert isinstance(verdict, Rejected)
    assert verdict.error.code == "Http404"
    assert "404 Not Found" in verdict.error.msg


def test_a_redirect_says_where_it_points() -> None:
    verdict = judge(an_answer(307, location="https://elsewhere.test/"), mutating=True)
    assert isinstance(verdict, Rejected)
    assert verdict.error.code == "UnexpectedRedirect"
    assert "https://elsewhere.test/" in verdict.error.msg


@pytest.mark.parametrize("status", [302, 303])
def test_a_redirect_to_what_was_done_says_nothing_about_whether_it_was(status: int) -> None:
    answer = an_answer(status, location="/tasks/1")
    assert isinstance(judge(answer, mutating=True), Ambiguous)
    assert isinstance(judge(answer, mutating=False), Rejected)


def test_a_wrong_certificate_is_told_with_both_thumbprints() -> None:
    expected, presented = thumbprint_of(b"a"), thumbprint_of(b"b")
    failure = Failure(FailureKind.PIN_MISMATCH, "", expected=expected, presented=presented)
    verdict = judge(failure, mutating=True)
    assert isinstance(verdict, Rejected)
    assert verdict.error.code == "ManagementThumbprintMismatch"
    assert verdict.error.args == (expected, presented)
    assert expected in verdict.error.msg
    assert presented in verdict.error.msg


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "999999"}, 60.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "\u0663"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT",
                "date": "Wed, 21 Oct 2026 07:28:30 GMT",
            },
            0.0,
        ),
    ],
)
def test_retry_after_is_seconds_or_a_date_by_the_appliances_own_clock(
    headers: dict[str, str], expected: float | None
) -> None:
    assert retry_after_s(headers) == expected


BEYOND = "9" * 30


@pytest.mark.parametrize(
    "date",
    [
        f"Wed, 21 Oct {BEYOND} 07:28:00 GMT",
        f"Wed, {BEYOND} Oct 2026 07:28:00 GMT",
        f"Wed, 21 Oct 2026 {BEYOND}:28:00 GMT",
        f"Wed, 21 Oct 2026 07:28:00 +{BEYOND}",
    ],
)
def test_a_date_that_no_machine_can_hold_is_none(date: str) -> None:
    fine = "Wed, 21 Oct 2026 07:28:00 GMT"
    assert answered_at_ms({"date": date}) is None
    assert retry_after_s({"retry-after": date, "date": fine}) is None
    assert retry_after_s({"retry-after": fine, "date": date}) is None


@pytest.mark.parametrize("status", [429, 503])
def test_the_wish_for_a_pause_travels_with_the_error(status: int) -> None:
    verdict = judge(an_answer(status, retry_after="12"), mutating=True)
    assert isinstance(verdict, NotSent)
    assert verdict.retry_after_s == 12.0


USELESS = [FailureKind.GARBLED, FailureKind.TOO_LARGE, FailureKind.ENCODED]


@pytest.mark.parametrize("kind", [*BEFORE_SENDING, *AFTER_SENDING])
def test_silence_is_told_from_an_answer_that_is_of_no_use(kind: FailureKind) -> None:
    verdict = judge(Failure(kind, "x"), mutating=False)
    assert isinstance(verdict, NotSent)
    assert verdict.is_answered == (kind in USELESS)


@pytest.mark.parametrize(("status", "is_answered"), [(500, True), (502, True), (503, False)])
def test_so_is_one_that_wants_to_be_asked_later(status: int, *, is_answered: bool) -> None:
    verdict = judge(an_answer(status), mutating=False)
    assert isinstance(verdict, NotSent)
    assert verdict.is_answered == is_answered


def test_an_answer_shows_no_body_in_its_repr() -> None:
    assert "secret" not in repr(Answer(200, {"x-vcav-auth": "secret"}, b"secret"))
