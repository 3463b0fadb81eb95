"""Files that come with the service but are no code: the contract, the migrations."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """The file or directory `name`: beside the package once installed, else in the checkout.

    Raises FileNotFoundError when it is in neither place.
    """
    for place in (_PACKAGE / name, _PACKAGE.parent / name):
        if place.exists():
            return place
    raise FileNotFoundError(f"{name} is neither in {_PACKAGE} nor beside it")
