"""The service as the bench runs it: `python -m bench.served DATA_DIR`.

API and worker together serve at once. A worker alone first starts and stops once, so that all of
it is imported; then it says that it is ready, and begins when it is told to, by a line.
"""

import argparse
import asyncio
import cProfile
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

from bench.processes import Role
from service.app import running
from service.engine.policy import Policy
from service.eventloop import SuspendAwareLoop
from service.garbage import collect_seldom
from service.observe.logging import configure
from service.settings import Settings


def main() -> None:
    """Serve until SIGTERM, with the log that a deployment has, in a file."""
    parser = argparse.ArgumentParser(prog="bench.served", description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--role", choices=("all", "api", "worker"), default="all")
    parser.add_argument("--database-url")
    parser.add_argument("--profile", type=Path, help="where to leave one")
    args = parser.parse_args()
    role: Role = args.role
    settings = Settings(
        data_dir=args.data_dir,
        listen=("127.0.0.1", 0),
        metrics_listen=("127.0.0.1", _free_port()) if role == "worker" else None,
        database_url=args.database_url,
        egress_allow=(ip_network("127.0.0.0/8"),),
    )
    with (args.data_dir / f"{role}.log").open("a", encoding="utf-8") as log:
        configure(stream=log)
        collect_seldom()
        with _profiled(args.profile), asyncio.Runner(loop_factory=SuspendAwareLoop) as runner:
            runner.run(_serve(settings, Policy(window=args.window), role))


@contextmanager
def _profiled(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with cProfile.Profile(time.thread_time) as profile:
        yield
    profile.dump_stats(path)


async def _serve(settings: Settings, policy: Policy, role: Role) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if role == "worker":
        await _work_when_told(settings, policy, stop)
        return
    async with running(settings, worker=role == "all", policy=policy) as service:
        _say({"url": service.url, "token": service.admin_token})
        await stop.wait()


async def _work_when_told(settings: Settings, policy: Policy, stop: asyncio.Event) -> None:
    async with running(settings, api=False, policy=policy):
        pass
    _say({})
    await asyncio.to_thread(sys.stdin.readline)
    async with running(settings, api=False, policy=policy) as service:
        if settings.metrics_listen is not None:
            url = "http://{}:{}".format(*settings.metrics_listen)
            _say({"url": url, "token": service.admin_token})
        await stop.wait()


def _say(description: object) -> None:
    sys.stdout.write(json.dumps(description) + "\n")
    sys.stdout.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
