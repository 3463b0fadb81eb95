"""What the appliances are like in a run, and what goes wrong with them from hour to hour. Pure."""

import random
from collections.abc import Sequence

Rule = dict[str, object]
Knobs = dict[str, object]

LONGEST_LATE_MS = 1_500
"""Less than what the service waits between the two looks that make an absence certain: a call that
arrives later than that can not be told from one that never does."""

_CHANGES = (("POST", "/sites"), ("PUT", "/sites/.+"), ("DELETE", "/sites/.+"))
_GARBAGE = ("html", "truncated", "text", "empty", "list", "binary", "cut")


def climate(rng: random.Random) -> Knobs:
    """The ways in which one appliance answers what its vendor leaves open."""
    fastest = rng.choice((100, 500, 1_500))
    return {
        "task_ms": [fastest, fastest + rng.choice((200, 1_500, 5_000))],
        "queued_ms": rng.choice((0, 20, 500)),
        "comm_refresh_ms": rng.choice((0, 0, 1_000, 3_000)),
        "already_paired": rng.choice(("task_fails", "rejected", "succeeds")),
        "unknown_peer_id": rng.choice(("rejected", "task_fails")),
        "bulk_poll": rng.choice(("yes", "yes", "404", "405")),
        "poll_layout": rng.choice(("rows", "columns")),
        "poll_cells": rng.choice(("nested", "flattened")),
        "public_url_slash": rng.choice(("kept", "added", "removed")),
        "lists_local_site": rng.random() < 0.3,
        "tasks_survive_restart": rng.random() < 0.7,
        "task_retention_ms": rng.choice((0, 0, 2_000)),
        "session_idle_ms": rng.choice((1_800_000, 3_000)),
        "keep_alive_ms": rng.choice((60_000, 1_000, 0)),
    }


def weather(rng: random.Random, appliances: Sequence[str]) -> dict[str, list[Rule]]:
    """The faults of each appliance until the weather changes; about a third of them have none.

    No appliance forgets a task that it goes on with: nobody could tell that from one that is gone.
    Those that are over are forgotten by `task_retention_ms`, or with a restart.
    """
    return {name: _storm(rng) for name in appliances if rng.random() < 0.65}


def _storm(rng: random.Random) -> list[Rule]:
    rules = [rule for method, path in _CHANGES for rule in _lost(rng, method, path)]
    rules += [
        _rule("/sites|/tasks.*", 0.02, kind="garbage", body=rng.choice(_GARBAGE)),
        _rule(".*", 0.02, kind="reset"),
        _rule("/sites.*|/tasks.*", 0.03, kind="status", status=503, retryAfter=1),
        _rule("/tasks.*", 0.03, kind="status", status=500),
        _rule(".*", 0.05, kind="slow", ms=rng.choice((50, 300, 1_000))),
        _rule(".*", 0.003, kind="hang", ms=rng.choice((2_000, 25_000))),
        _rule(".*", 0.01, kind="expire_sessions"),
        _rule("/sites", 0.03, kind="task_fails"),
        _rule("/sites.*", 0.03, kind="task_acts_and_fails"),
        _rule("/sites", 0.02, kind="task_mismatch"),
    ]
    rng.shuffle(rules)
    return rules


def _lost(rng: random.Random, method: str, path: str) -> list[Rule]:
    """The ways in which a call takes effect and its caller does not learn of it, or the reverse."""
    late_ms = rng.randint(50, LONGEST_LATE_MS)
    ways: tuple[tuple[float, dict[str, object]], ...] = (
        (0.10, {"kind": "lost_answer"}),
        (0.05, {"kind": "late", "ms": late_ms}),
        (0.05, {"kind": "status", "status": 500, "when": "after"}),
        (0.03, {"kind": "status", "status": 500, "when": "before"}),
        (0.05, {"kind": "status", "status": 503}),
        (0.03, {"kind": "reset"}),
        (0.02, {"kind": "hang", "ms": 25_000, "when": "after"}),
        (0.02, {"kind": "garbage", "body": rng.choice(_GARBAGE)}),
    )
    return [_rule(path, share, method, **action) for share, action in ways]


def _rule(path: str, probability: float, method: str = "*", **action: object) -> Rule:
    return {
        "method": method,
        "path": path,
        "times": None,
        "probability": probability,
        "action": action,
    }
