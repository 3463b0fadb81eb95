"""/sessions: login, who am I, logout, and the check that every other call passes (h4-api 1)."""

from typing import TYPE_CHECKING, Any

import msgspec

from simulator import errors
from simulator.appliance import Appliance
from simulator.reply import Refused, Reply
from simulator.wire import PLAIN_JSON, TOKEN_HEADER

if TYPE_CHECKING:
    from simulator.world import Visit, World

ROLES = ("EVERYONE", "ADMINISTRATORS", "VRADMINISTRATORS")
SESSION_GONE = {"WWW-Authenticate": "Authentication Token Required"}


def admit(visit: "Visit", now: int) -> None:
    """Let the bearer of a live token in. Raises Refused."""
    appliance, call = visit.appliance, visit.call
    session = None
    if call.token:
        session = appliance.sessions.find(call.token, call.address, now, appliance.knobs)
    if session is None:
        raise Refused(401, errors.NOT_AUTHENTICATED, SESSION_GONE)
    visit.user = session.user


def log_in(world: "World", visit: "Visit", now: int) -> Reply:
    """POST /sessions."""
    appliance, knobs = visit.appliance, visit.appliance.knobs
    user, is_right = _credentials(appliance, visit.call.body)
    counts = world.truth.counts(appliance.name)
    session = None
    if knobs.admin_from_public == "allowed":
        if not is_right:
            appliance.sessions.refuse(user, now)
        elif not appliance.sessions.is_locked(user, now, knobs):
            session = appliance.sessions.open(user, visit.call.address, now, knobs)
    if session is None:
        # No marker here: it would mean that a session is gone, not that a login failed.
        counts.logins_refused += 1
        raise Refused(401, errors.NOT_AUTHENTICATED)
    counts.logins_accepted += 1
    visit.user = user
    body = {"roles": ROLES, "user": user}
    return Reply(200, body, {TOKEN_HEADER: session.token}, content_type=PLAIN_JSON)


def who_am_i(_world: "World", visit: "Visit", _now: int) -> Reply:
    """GET /sessions."""
    return Reply(200, {"roles": ROLES, "user": visit.user})


def log_out(_world: "World", visit: "Visit", _now: int) -> Reply:
    """DELETE /sessions."""
    visit.appliance.sessions.close(visit.call.token or "")
    return Reply(204)


def _credentials(appliance: Appliance, body: bytes) -> tuple[str, bool]:
    """The user that a login names, and whether the password is theirs."""
    try:
        raw = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as fault:
        raise Refused(400, errors.bad_request("The request body can not be read.")) from fault
    identity = appliance.identity
    match raw:
        case {"type": "localUser", "localUser": str(user), "localPassword": str(password)}:
            right = (identity.username, identity.password)
        case {"type": "ssoCredentials", "username": str(user), "password": str(password)}:
            right = (identity.sso_username, identity.sso_password)
        case {"type": "ssoToken"}:
            raise Refused(401, errors.NOT_AUTHENTICATED)
        case _:
            raise Refused(400, errors.bad_user_input(f"Unknown credentials: {raw.get('type')}"))
    return user, (user, password) == right
