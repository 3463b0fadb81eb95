"""Sessions of one appliance: tokens, their two ages, refused logins and the lockout (h4-api 1)."""

import base64
import random
from dataclasses import dataclass

from simulator.knobs import Knobs


@dataclass(slots=True)
class Session:
    """A login that was accepted. `used_ms` moves with every call that carries its token."""

    token: str
    user: str
    created_ms: int
    used_ms: int
    address: str


@dataclass(slots=True)
class _Refusals:
    count: int = 0
    last_ms: int = 0


class Sessions:
    """The open sessions, oldest first. A token says nothing: 20 random bytes in base64."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._open: dict[str, Session] = {}
        self._refusals: dict[str, _Refusals] = {}
        self._next_sweep = 64

    def __len__(self) -> int:
        return len(self._open)

    def open(self, user: str, address: str, now: int, knobs: Knobs) -> Session | None:
        """A new session, or None when there are too many and the knob says to refuse."""
        if knobs.max_sessions or len(self._open) >= self._next_sweep:
            self._drop_expired(now, knobs)
        if knobs.max_sessions and len(self._open) >= knobs.max_sessions:
            if knobs.over_max_sessions == "refused":
                return None
            del self._open[next(iter(self._open))]
        token = base64.b64encode(self._rng.randbytes(20)).decode()
        session = Session(token, user, now, now, address)
        self._open[token] = session
        self._refusals.pop(user, None)
        return session

    def find(self, token: str, address: str, now: int, knobs: Knobs) -> Session | None:
        """The live session of `token`; finding it resets its idle timer."""
        session = self._open.get(token)
        if session is None:
            return None
        if _is_over(session, now, knobs):
            del self._open[token]
            return None
        if knobs.session_binding == "address" and session.address != address:
            return None
        session.used_ms = now
        return session

    def user_of(self, token: str | None) -> str | None:
        """Whose token this is, without touching the session: fault rules ask."""
        session = self._open.get(token or "")
        return session.user if session else None

    def close(self, token: str) -> None:
        """Log out."""
        self._open.pop(token, None)

    def drop_all(self) -> None:
        """Every token becomes unknown, as after a restart."""
        self._open.clear()

    def refuse(self, user: str, now: int) -> None:
        """Count a wrong password."""
        refusals = self._refusals.setdefault(user, _Refusals())
        refusals.count += 1
        refusals.last_ms = now

    def is_locked(self, user: str, now: int, knobs: Knobs) -> bool:
        """Whether even the right password is refused for now."""
        refusals = self._refusals.get(user)
        if refusals is None or not knobs.lockout_after:
            return False
        if now >= refusals.last_ms + knobs.lockout_ms:
            del self._refusals[user]
            return False
        return refusals.count >= knobs.lockout_after

    def _drop_expired(self, now: int, knobs: Knobs) -> None:
        for token in [s.token for s in self._open.values() if _is_over(s, now, knobs)]:
            del self._open[token]
        self._next_sweep = max(64, 2 * len(self._open))


def _is_over(session: Session, now: int, knobs: Knobs) -> bool:
    idle_ms, max_age_ms = knobs.session_idle_ms, knobs.session_max_age_ms
    is_idle = idle_ms != 0 and now >= session.used_ms + idle_ms
    return is_idle or (max_age_ms != 0 and now >= session.created_ms + max_age_ms)
