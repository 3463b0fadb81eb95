"""The service as the bench runs it: `python -m bench.served DATA_DIR WINDOW`; 0: no worker."""

import asyncio
import json
import signal
import sys
from ipaddress import ip_network
from pathlib import Path

from service.app import running
from service.engine.policy import Policy
from service.observe.logging import configure
from service.settings import Settings


async def _serve(data_dir: Path, window: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = Settings(
        data_dir=data_dir,
        listen=("127.0.0.1", 0),
        egress_allow=(ip_network("127.0.0.0/8"),),
    )
    policy = Policy(window=max(1, window))
    async with running(settings, worker=window > 0, policy=policy) as service:
        sys.stdout.write(json.dumps({"url": service.url, "token": service.admin_token}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Serve until SIGTERM, with the log that a deployment has, in a file."""
    data_dir = Path(sys.argv[1])
    with (data_dir / "service.log").open("w", encoding="utf-8") as log:
        configure(stream=log)
        asyncio.run(_serve(data_dir, int(sys.argv[2])))


if __name__ == "__main__":
    main()
