"""How often Python looks for cycles of garbage."""

import gc

_ALLOCATIONS = 20_000
_GENERATIONS = 20


def collect_seldom() -> None:
    """Look for garbage less often than by default, which suits small programs.

    A worker makes hundreds of short-lived values a pairing, none of them in a cycle, and keeps
    millions: by default the looking is a sixth of all it does. For whoever has the process to
    himself, once all is imported.
    """
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, _GENERATIONS, _GENERATIONS)
