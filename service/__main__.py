"""The command `sitepair`, which is `python -m service` too."""

import signal
import sys
from functools import partial


def main() -> int:
    """Run the command line. The exit status is the command's.

    Before a command begins there is nothing that would have to end in order: until then Ctrl-C
    ends the process as it ends any other, for a traceback of half an import tells nobody anything.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from service import cli  # noqa: PLC0415 - what takes its time is loaded after that

    return cli.main(partial(signal.signal, signal.SIGINT, usual))


if __name__ == "__main__":
    sys.exit(main())
