"""The command `sitepair`: runs the service, and uses one."""

import os
import sys
from pathlib import Path

from cyclopts import App

from service import __version__
from service.cli import appliances, audit, batch, demo, pair, prune, serve, simulate

app = App(
    name="sitepair",
    help="Pairs VMware Cloud Director Availability appliances: both sides, verified, on record.",
    version=__version__,
    result_action="return_value",
)
app.command(serve.serve)
app.command(serve.migrate)
app.command(demo.demo)
app.command(simulate.simulate)
app.command(appliances.app)
app.command(pair.pair)
app.command(pair.cancel)
app.command(pair.retry)
app.command(batch.batch)
app.command(audit.app)
app.command(prune.prune)


def main() -> int:
    """Run the command line. The exit status is the command's."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        # Closed from the beginning (`2>&-`): what is said there, and logged, is said to nobody.
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        status = app()
    return status if isinstance(status, int) else 0
