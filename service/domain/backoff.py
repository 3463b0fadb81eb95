"""How long to wait before trying again."""


def backoff_s(attempt: int, jitter: float, *, base_s: float = 0.25, cap_s: float = 30.0) -> float:
    """The pause after the `attempt`-th failure (from 1): doubling from `base_s` up to `cap_s`.

    `jitter` in [0, 1) spreads it over its upper half, so that many who failed together do not
    come back together.
    """
    full = min(cap_s, base_s * 2.0 ** min(attempt - 1, 30))
    return full * (0.5 + jitter / 2)
