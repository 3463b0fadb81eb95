"""`python -m bench.peers NAME`: one peer at work, as the parent process tells it."""

import sys
from importlib import import_module

from bench.peers.contest import Contest


def main() -> None:
    """Contend under the name that was given."""
    peer = import_module(f"bench.peers.on_{sys.argv[1]}")
    peer.run(peer.contend(Contest.heard()))


if __name__ == "__main__":
    main()
