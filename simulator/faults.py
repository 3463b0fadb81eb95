"""Fault rules: which calls they match, how often they fire, what then happens.

A rule is data: matching is pure and the only randomness is the generator handed in, so that a
seed replays. What an action does to a connection is the shell's business (`mischief`); what it
does to an appliance is the world's.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from simulator.knobs import MOST

ActionKind = Literal[
    "lost_answer",
    "reset",
    "late",
    "hang",
    "slow",
    "status",
    "garbage",
    "huge",
    "drip",
    "gzip_bomb",
    "redirect",
    "down",
    "forget_tasks",
    "expire_sessions",
    "task_fails",
    "task_acts_and_fails",
    "task_lies",
    "task_mismatch",
]
When = Literal["before", "after"]
GarbageBody = Literal["html", "truncated", "text", "empty", "list", "binary", "cut"]
_CHANGES = frozenset({"POST", "PUT", "DELETE"})
_SPOILS: Mapping[str, frozenset[str]] = {
    "task_fails": _CHANGES,
    "task_acts_and_fails": _CHANGES,
    "task_lies": _CHANGES,
    "task_mismatch": _CHANGES - {"DELETE"},
}
"""The actions that spoil a task, and of which calls: a record that is gone can not be wrong."""
WORLDLY = frozenset({"forget_tasks", "expire_sessions", *_SPOILS})


@dataclass(frozen=True, slots=True)
class Action:
    """What a firing rule does. Which fields count depends on `kind`; see the manual."""

    kind: ActionKind
    when: When | None = None
    """Whether the appliance acts first (after) or the call never takes effect (before)."""
    ms: int = 0
    """How long; for `hang` and `down` 0 means for ever."""
    status: int = 500
    code: str = "GeneralServerFailure"
    msg: str = "Simulated fault."
    marker: bool = False
    """Whether a 401 carries the header that means "session gone" (h4-api 1)."""
    retry_after: int | None = None
    """Seconds, for the Retry-After header."""
    body: GarbageBody = "html"
    mb: int = 16
    location: str = "https://127.0.0.1:1/elsewhere"
    mode: Literal["refuse", "slam"] = "refuse"
    chunk: int = 1
    """Bytes per drop of a `drip`."""

    @property
    def acts_first(self) -> bool:
        """Whether the call takes effect; a `late` one does so in its own time."""
        if self.kind in {"reset", "redirect", "down", "late"}:
            return False
        if self.kind == "lost_answer":
            return True
        default = "before" if self.kind in {"status", "hang"} else "after"
        return (self.when or default) == "after"


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault. `path` is a regular expression that the whole path has to match."""

    action: Action
    method: str = "*"
    path: str = ".*"
    user: str | None = None
    operation_id: str | None = None
    skip: int = 0
    times: int | None = 1
    """How often it fires at most; None for always."""
    probability: float = 1.0


@dataclass(slots=True)
class _Armed:
    rule: Rule
    path: re.Pattern[str]
    seen: int = 0
    fired: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """What rules match against."""

    method: str
    path: str
    user: str | None
    operation_id: str | None

    def starts(self, changes: frozenset[str]) -> bool:
        """Whether it asks to pair, repair or unpair, by one of these methods."""
        return self.path.startswith("/sites") and self.method in changes


class BadFault(ValueError):
    """A rule that can not be; the message names the fault."""


class RuleBook:
    """The rules of one appliance, in the order in which they were added. The first to fire wins."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._armed: dict[str, _Armed] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._armed)

    def add(self, rule: Rule) -> str:
        """Arm a rule; returns its id. Raises BadFault when it can not be."""
        try:
            path = re.compile(rule.path)
        except (re.error, OverflowError, RecursionError) as fault:
            raise BadFault(f"path is no regular expression: {fault}") from fault
        rule_id = f"f{self._next}"
        self._next += 1
        self._armed[rule_id] = _Armed(rule, path)
        return rule_id

    def remove(self, rule_id: str) -> bool:
        """Disarm one rule; whether there was one."""
        return self._armed.pop(rule_id, None) is not None

    def clear(self) -> None:
        """Disarm all."""
        self._armed.clear()

    def fired(self, rule_id: str) -> int:
        """How often a rule has fired."""
        return self._armed[rule_id].fired

    def draw(self, target: Target) -> Action | None:
        """The action of the first rule that fires for this call, if any does."""
        for armed in self._armed.values():
            if _matches(armed, target) and self._fires(armed):
                armed.fired += 1
                return armed.rule.action
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """For the control endpoint."""
        return [
            {"id": rule_id, "seen": armed.seen, "fired": armed.fired, **rule_json(armed.rule)}
            for rule_id, armed in self._armed.items()
        ]

    def _fires(self, armed: _Armed) -> bool:
        rule = armed.rule
        armed.seen += 1
        if armed.seen <= rule.skip or (rule.times is not None and armed.fired >= rule.times):
            return False
        return rule.probability >= 1 or self._rng.random() < rule.probability


def _matches(armed: _Armed, target: Target) -> bool:
    rule = armed.rule
    spoilt = _SPOILS.get(rule.action.kind)
    if spoilt is not None and not target.starts(spoilt):
        return False
    return (
        rule.method in {"*", target.method}
        and rule.user in {None, target.user}
        and rule.operation_id in {None, target.operation_id}
        and armed.path.fullmatch(target.path) is not None
    )


def fault(kind: ActionKind, *, method: str = "*", path: str = ".*", **options: Any) -> Rule:
    """A rule in one line: `fault("status", path="/sites", status=503, times=2)`.

    Options that are no fields of a Rule go to its Action. Raises BadFault like `parse_rule`.
    """
    rule_names = {field.name for field in fields(Rule)}
    action = {name: value for name, value in options.items() if name not in rule_names}
    rule = {name: value for name, value in options.items() if name in rule_names}
    return _rule({"method": method, "path": path, **rule}, {"kind": kind, **action})


def parse_rule(raw: object) -> Rule:
    """A rule from JSON: `{"method", "path", ..., "action": {"kind", ...}}`. Raises BadFault."""
    if not isinstance(raw, dict):
        raise BadFault("a rule is an object")
    action = raw.get("action")
    if isinstance(action, str):
        action = {"kind": action}
    if not isinstance(action, dict):
        raise BadFault(f"action takes one of {', '.join(get_args(ActionKind))}, or an object")
    rule = {_snake(name): value for name, value in raw.items() if name != "action"}
    return _rule(rule, {_snake(name): value for name, value in action.items()})


def rule_json(rule: Rule) -> dict[str, Any]:
    """A rule as `parse_rule` reads it."""
    plain = {_camel(name): value for name, value in asdict(rule).items() if name != "action"}
    default = Action(rule.action.kind)
    action = {
        _camel(field.name): getattr(rule.action, field.name)
        for field in fields(Action)
        if field.name == "kind" or getattr(rule.action, field.name) != getattr(default, field.name)
    }
    return {**plain, "action": action}


def _rule(raw: Mapping[str, Any], action: Mapping[str, Any]) -> Rule:
    faults = [*_faults(Action, action, "action."), *_faults(Rule, raw, "")]
    if "kind" not in action:
        faults.append(f"action.kind takes one of {', '.join(get_args(ActionKind))}")
    if faults:
        raise BadFault("; ".join(faults))
    rule = Rule(Action(**action), **raw)
    if not 200 <= rule.action.status <= 599:
        raise BadFault(f"action.status takes a status from 200 to 599, not {rule.action.status}")
    if not rule.action.location.isprintable():
        raise BadFault(f"action.location takes one line, not {rule.action.location!r}")
    return replace(rule, method=rule.method.upper())


def _faults(kind: type[Action | Rule], raw: Mapping[str, Any], prefix: str) -> list[str]:
    hints = get_type_hints(kind)
    found: list[str] = []
    for name, value in raw.items():
        if name not in hints or name == "action":
            found.append(f"no field {prefix}{name}")
        elif text := _complaint(hints[name], value):
            found.append(f"{prefix}{name} takes {text}, not {value!r}")
    return found


def _complaint(hint: Any, value: object) -> str | None:
    """What a field takes, when `value` is not that."""
    choices = get_args(hint)
    if choices and type(None) in choices:
        if value is None:
            return None
        hint = next(choice for choice in choices if choice is not type(None))
        choices = get_args(hint)
    if choices:
        return None if value in choices else f"one of {', '.join(choices)}"
    if hint is bool:
        return None if isinstance(value, bool) else "true or false"
    if hint is float:
        return None if _is_number(value) and 0 <= float(str(value)) <= 1 else "a share from 0 to 1"
    if hint is int:
        is_count = type(value) is int and 0 <= value <= MOST
        return None if is_count else f"a whole number from 0 to {MOST}"
    return None if isinstance(value, str) else "a text"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _snake(name: str) -> str:
    if name == "operationID":
        return "operation_id"
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: "_" + match[1].lower(), name)


def _camel(name: str) -> str:
    if name == "operation_id":
        return "operationID"
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
