"""`python -m service` is `sitepair`."""

import sys

from service.cli import main

sys.exit(main())
