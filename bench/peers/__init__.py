"""Others doing the same work, each as its own documentation would have it: a dozen lines a peer.

Each is a process, `python -m bench.peers NAME`: told a `Contest`, it queues all pairings, says that
it is ready, begins when told to, and says at the end what it took. `run` is the loop that the
library itself would run on. The libraries are in the dependency group `bench`.
"""
