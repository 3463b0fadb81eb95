"""Knobs: every behaviour that h4-api.md marks as unknown, with all its ways.

The defaults are the likeliest reading. A knob that is a word takes one of the words of its type,
and `changed` refuses every other with a text that names the choices.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

MOST = 10**12
"""No time (ms) or count is beyond: sums of such numbers can still be told in JSON."""
Policy = Literal["rejected", "task_fails", "succeeds"]
"""What becomes of a doubtful call: refused at once, accepted with a FAILED task, or it works."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """How one appliance behaves. Times are in ms; 0 switches a limit off unless said otherwise."""

    # Sessions (h4-api 1)
    session_idle_ms: int = 1_800_000
    session_max_age_ms: int = 86_400_000
    max_sessions: int = 0
    over_max_sessions: Literal["oldest_dropped", "refused"] = "oldest_dropped"
    session_binding: Literal["none", "address"] = "none"
    lockout_after: int = 5
    lockout_ms: int = 900_000
    admin_from_public: Literal["allowed", "refused"] = "allowed"

    # Pairing (h4-api 2.1, 2.3, 7)
    already_paired: Policy = "task_fails"
    self_pairing: Policy = "task_fails"
    unreachable_peer: Policy = "task_fails"
    wrong_thumbprint: Policy = "succeeds"
    unknown_peer_id: Literal["rejected", "task_fails"] = "rejected"
    replications: Literal["none", "rejected", "task_fails"] = "none"
    version_skew: Literal["rejected", "task_fails"] = "task_fails"
    licensed: bool = True
    configured: bool = True
    unready: Literal["rejected", "task_fails"] = "task_fails"
    thumbprint_case: Literal["exact", "any"] = "exact"
    unpair_removes_both: bool = False
    one_sided_error: Literal["Forbidden", "NotAuthenticated", "SiteNotFound"] = "Forbidden"
    one_sided_incoming: Literal["error", "null"] = "error"
    unpaired_error: Literal["Forbidden", "NotAuthenticated", "SiteNotFound"] = "SiteNotFound"
    comm_refresh_ms: int = 0

    # Listing (h4-api 2.1, 2.2)
    lists_local_site: bool = False
    list_lag_ms: int = 0
    """For so long GET /sites answers with the same records."""
    get_site: bool = False
    api_url_rewritten: bool = True
    public_url_slash: Literal["kept", "added", "removed"] = "kept"

    # Tasks (h4-api 3)
    task_ms: tuple[int, int] = (80, 220)
    queued_ms: int = 20
    extra_states: tuple[str, ...] = ()
    last_updated: Literal["minus_one", "real"] = "minus_one"
    repair_type: str = "repair"
    unpair_type: str = "unpair"
    tasks_of_others: Literal["hidden", "visible"] = "hidden"
    unknown_task_status: Literal[404, 400, 500] = 404
    unknown_task_code: str = "NotFound"
    task_retention_ms: int = 0
    task_result: Literal["told", "omitted"] = "told"
    tasks_survive_restart: bool = True
    list_limit_max: int = 1000
    operation_id_filter: bool = False

    # Bulk poll (h4-api 3.5)
    bulk_poll: Literal["yes", "404", "405"] = "yes"
    poll_layout: Literal["rows", "columns"] = "rows"
    poll_cells: Literal["nested", "flattened", "omitted"] = "nested"
    """How results and errors are told, if at all."""
    poll_order: Literal["random", "fixed"] = "random"
    poll_max_ids: int = 0
    poll_unknown_ids: Literal["omitted", "error"] = "omitted"

    # HTTP (h4-api 4, 5, 8)
    unknown_accept: Literal["406", "plain"] = "406"
    media_type: Literal["vendor", "plain"] = "vendor"
    operation_id_max: int = 0
    operation_id_echoed: bool = False
    about_needs_token: bool = True
    health_method: Literal["POST", "GET"] = "POST"
    api_version: str = "4.7"
    build_version: str = "4.7.4.25076082-8554b3d026"
    keep_alive_ms: int = 60_000
    """How long an idle connection is kept; 0: closed after each answer."""


class BadKnob(ValueError):
    """A knob that does not exist, or a value it does not take."""


_HINTS = get_type_hints(Knobs)
_NAMES = tuple(field.name for field in fields(Knobs))


def changed(knobs: Knobs, changes: Mapping[str, object]) -> Knobs:
    """`knobs` with `changes` made. Raises BadKnob that names every fault."""
    faults: list[str] = []
    values: dict[str, Any] = {}
    for name, value in changes.items():
        try:
            values[name] = _checked(name, value)
        except BadKnob as fault:
            faults.append(str(fault))
    if faults:
        raise BadKnob("; ".join(faults))
    return replace(knobs, **values)


def _checked(name: str, value: object) -> object:
    if name not in _NAMES:
        near = difflib.get_close_matches(name, _NAMES, n=1)
        raise BadKnob(f"no knob {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    hint = _HINTS[name]
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        for choice in choices:
            # 404 and "404" are the same to whoever turns a knob.
            if str(choice) == str(value):
                return choice
        raise BadKnob(f"{name} takes one of {', '.join(map(repr, choices))}, not {value!r}")
    if hint is bool:
        if not isinstance(value, bool):
            raise BadKnob(f"{name} takes true or false, not {value!r}")
        return value
    if hint is int:
        if not _is_count(value):
            raise BadKnob(f"{name} takes a whole number from 0 to {MOST}, not {value!r}")
        return value
    return _checked_text(name, value)


def _checked_text(name: str, value: object) -> object:
    if name == "task_ms":
        if (
            isinstance(value, list | tuple)
            and len(value) == 2
            and all(map(_is_count, value))
            and value[0] <= value[1]
        ):
            return tuple(value)
        raise BadKnob(f"task_ms takes two whole numbers, the smaller first, not {value!r}")
    if name == "extra_states":
        if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
            return tuple(value)
        raise BadKnob(f"extra_states takes a list of words, not {value!r}")
    if not isinstance(value, str) or not value:
        raise BadKnob(f"{name} takes a text, not {value!r}")
    if name == "api_version" and not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4})?", value):
        raise BadKnob(f"api_version takes a version as 4.7, not {value!r}")
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST
