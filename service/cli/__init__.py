"""The command `sitepair`: runs the service, and uses one."""

import os
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

from cyclopts import App

from service import __version__
from service.cli.status import Exit, Terminal, Unwritable, settled, tell

app = App(
    name="sitepair",
    help="Pairs VMware Cloud Director Availability appliances on both sides, verified and audited.",
    version=__version__,
    result_action="return_value",
)
# Imported when they are called: most are clients, and need nothing of the service but its words.
app.command("service.cli.serve:serve")
app.command("service.cli.serve:migrate")
app.command("service.cli.demo:demo")
app.command("service.cli.simulate:simulate")
app.command("service.cli.appliances:app", name="appliance")
app.command("service.cli.pair:pair")
app.command("service.cli.pair:cancel")
app.command("service.cli.pair:retry")
app.command("service.cli.batch:batch")
app.command("service.cli.audit:app", name="audit")
app.command("service.cli.prune:prune")


def _import_all() -> None:
    """Whoever asks for help is told of all commands in their own words."""
    for name in app:
        app[name]


def main(begin: Callable[[], object] = lambda: None) -> int:
    """Run the command line: `begin`, as soon as all of the command is loaded, then the command
    itself, whose exit status it is."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, settled():
        # Closed from the beginning (`2>&-`): what is said there, and logged, is said to nobody.
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        if isinstance(sys.stdout, TextIOWrapper):
            # What others wrote may have characters that this terminal has not.
            sys.stdout.reconfigure(errors="backslashreplace")
        app.console, app.error_console = Terminal(), Terminal(stderr=True)
        if set(sys.argv[1:2]) <= set(app.help_flags):
            _import_all()
        command, bound, _ = app.parse_args(sys.argv[1:])
        try:
            begin()
            status = command(*bound.args, **bound.kwargs)
        except KeyboardInterrupt:
            return Exit.INTERRUPTED
        except Unwritable as error:
            tell(str(error))
            return Exit.FAILED
    return status if isinstance(status, int) else 0
