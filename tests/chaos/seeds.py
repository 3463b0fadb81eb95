"""Where all that varies from run to run comes from."""

import random


def seeded(seed: int, what: str) -> random.Random:
    """The choices about `what` of the run with this seed, independent of those about all else."""
    return random.Random(f"{what} of {seed}")  # noqa: S311 - a seed has to replay
