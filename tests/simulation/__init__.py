"""The service on virtual time, against all that can go wrong.

``python -m tests.simulation --help`` plays seeds; ``python -m tests.simulation.mutants`` shows
that broken promises are seen. A bug named in ``SIMULATION_MUTANT`` is planted before anything is
imported.
"""

import os

from tests.simulation.planting import plant

if os.environ.get("SIMULATION_MUTANT"):
    plant(os.environ["SIMULATION_MUTANT"])
