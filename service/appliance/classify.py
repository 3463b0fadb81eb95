"""What a call's outcome means for whoever made it, as one table (h4-api 7).

=============================================  ===============  ====================
outcome                                        mutating call    call that only looks
=============================================  ===============  ====================
no connection, DNS, TLS handshake, time-out    NotSent          NotSent
  before sending; no descriptor or memory left
408, 429, 503                                  NotSent          NotSent
sent, then cut, silent, garbled, too large,    Ambiguous        Unheard
  encoded
5xx but 503; 2xx with an unreadable body       Ambiguous        NotSent (501: Rejected)
302, 303                                       Ambiguous        Rejected
401 with the mark of an ended session, also    SessionExpired   SessionExpired
  after a new login
other 4xx, 3xx                                 Rejected         Rejected
wrong or untrusted certificate, forbidden      Rejected         Rejected
  address, unusable URL
=============================================  ===============  ====================
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeGuard

from service.appliance.exchange import AFTER_SENDING, Answer, Failure, FailureKind, Outcome
from service.appliance.wire import read_error
from service.domain.appliance import ApiError
from service.domain.errors import Ambiguous, NotSent, OutOfResources, Rejected, Unheard

SESSION_ENDED = "authentication token required"
"""In `WWW-Authenticate` it tells an ended session from every other 401 (h4-api 1)."""

_ELSEWHERE = "RemoteAuthenticationFailure"
"""The 401 about credentials for another site (h4-api 7)."""

MAX_RETRY_AFTER_S = 60.0
"""More would let a pairing wait its whole time for an appliance that is back long since."""

_CODES = {
    FailureKind.UNREACHABLE: "ApplianceUnreachable",
    FailureKind.CONNECT_TIMEOUT: "ConnectTimeout",
    FailureKind.TLS_FAILED: "TlsFailed",
    FailureKind.USED_UP: "OutOfResources",
    FailureKind.PIN_MISMATCH: "ManagementThumbprintMismatch",
    FailureKind.UNTRUSTED: "CertificateNotTrusted",
    FailureKind.FORBIDDEN: "EgressForbidden",
    FailureKind.INVALID_URL: "InvalidManagementUrl",
    FailureKind.CUT: "ConnectionLost",
    FailureKind.SILENT: "AnswerTimeout",
    FailureKind.GARBLED: "UnreadableAnswer",
    FailureKind.TOO_LARGE: "AnswerTooLarge",
    FailureKind.ENCODED: "AnswerEncoded",
}
_NEEDS_SOMEBODY = frozenset(
    {
        FailureKind.PIN_MISMATCH,
        FailureKind.UNTRUSTED,
        FailureKind.FORBIDDEN,
        FailureKind.INVALID_URL,
    }
)
_USELESS = frozenset({FailureKind.GARBLED, FailureKind.TOO_LARGE, FailureKind.ENCODED})
_SEE_ELSEWHERE = frozenset({302, 303})
"""So one answers, too, who has done what was asked and tells where it can be seen."""

UNTOUCHED = frozenset({408, 429, 503})
"""Answers that say nothing about what was asked: it is asked again."""


@dataclass(frozen=True, slots=True)
class SessionExpired:
    """The appliance did not act on the call: log in again and repeat it, even a mutating one."""

    error: ApiError


Verdict = Answer | SessionExpired | NotSent | Ambiguous | Rejected


def judge(outcome: Outcome, *, mutating: bool) -> Verdict:
    """The answer if it is a good one (2xx), else the error to raise."""
    if isinstance(outcome, Failure):
        return judge_failure(outcome, mutating=mutating)
    if 200 <= outcome.status < 300:
        return outcome
    error = error_in(outcome)
    if is_session_expired(outcome):
        return SessionExpired(error)
    if outcome.status in UNTOUCHED:
        return NotSent(error, retry_after_s(outcome.headers))
    is_refused = 300 <= outcome.status < 500 and not (mutating and outcome.status in _SEE_ELSEWHERE)
    if is_refused or (outcome.status == 501 and not mutating):
        return Rejected(error, outcome.status)
    return unclear(error, mutating=mutating)


def good(outcome: Outcome, *, mutating: bool) -> Answer:
    """The answer if it is a good one. Raises NotSent, also when the session ended once more just
    after a new login; Ambiguous; Rejected."""
    verdict = judge(outcome, mutating=mutating)
    if isinstance(verdict, Answer):
        return verdict
    if isinstance(verdict, SessionExpired):
        raise NotSent(verdict.error)
    raise verdict


def judge_failure(failure: Failure, *, mutating: bool) -> NotSent | Ambiguous | Rejected:
    """The error to raise for a call that got no usable answer."""
    error = ApiError(_CODES[failure.kind], *_words(failure))
    if failure.kind in _NEEDS_SOMEBODY:
        return Rejected(error, 0)
    if failure.kind in AFTER_SENDING and mutating:
        return Ambiguous(error)
    if failure.kind is FailureKind.USED_UP:
        return OutOfResources(error)
    if failure.kind in AFTER_SENDING:
        return Unheard(error, is_answered=failure.kind in _USELESS)
    return NotSent(error)


def unclear(error: ApiError, *, mutating: bool) -> NotSent | Ambiguous:
    """Answered, and what it did is not known: which matters only if it could do something."""
    return Ambiguous(error) if mutating else NotSent(error, is_answered=True)


def unreadable(why: str) -> ApiError:
    """The error of a good answer whose body cannot be read."""
    return ApiError("UnreadableAnswer", f"The call may have worked, but {why}.")


def is_session_expired(outcome: Outcome) -> bool:
    """Whether the appliance says that it does not know the session any more."""
    return (
        isinstance(outcome, Answer)
        and outcome.status == 401
        and SESSION_ENDED in outcome.headers.get("www-authenticate", "").lower()
    )


def is_plain_401(outcome: Outcome) -> TypeGuard[Answer]:
    """Whether it may be the end of a session, though it is not marked as one: of the mark one
    client alone tells (h4-api 1, 7)."""
    return (
        isinstance(outcome, Answer)
        and outcome.status == 401
        and not is_session_expired(outcome)
        and error_in(outcome).code != _ELSEWHERE
    )


def error_in(answer: Answer) -> ApiError:
    """The appliance's own error, or one made from the status."""
    if 300 <= answer.status < 400:
        target = answer.headers.get("location", "")[:200]
        return ApiError(
            "UnexpectedRedirect",
            f"The appliance answered {answer.status} and points to '{target}'; is managementUrl "
            "the appliance itself?",
            (str(answer.status), target),
        )
    return read_error(answer.body) or ApiError(
        f"Http{answer.status}",
        f"The appliance answered {answer.status} {_phrase(answer.status)}".rstrip() + ".",
        (str(answer.status),),
    )


def answered_at_ms(headers: Mapping[str, str]) -> int | None:
    """When it was answered by the appliance's own clock, in whole seconds; None if not told."""
    moment = _date(headers.get("date", ""))
    return int(moment.timestamp() * 1000) if moment is not None else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The pause that an answer asks for: seconds, or a date seen from its own `Date`."""
    wish = headers.get("retry-after", "").strip()
    if not wish:
        return None
    if wish.isascii() and wish.isdigit():
        return min(float(wish), MAX_RETRY_AFTER_S)
    until, now = _date(wish), _date(headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _words(failure: Failure) -> tuple[str, tuple[str, ...]]:
    if failure.kind is FailureKind.PIN_MISMATCH:
        expected, presented = failure.expected or "", failure.presented or ""
        text = (
            f"The management endpoint presents the certificate {presented}, but {expected} is "
            "registered. If the presented one is right, register the appliance anew with it."
        )
        return text, (expected, presented)
    return f"{failure.kind.value.capitalize()}: {failure.detail}", (failure.detail,)
