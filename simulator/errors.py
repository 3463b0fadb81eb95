"""The appliance's own words for what went wrong (h4-api 7), and our guesses where it is silent."""

from simulator.wire import ApiError

_PACKAGE = "com.vmware.h4.api.error.exceptions"


def _error(code: str, msg: str, *args: str, thrown: str = "H4Exception") -> ApiError:
    return ApiError(code, msg, args, f"{_PACKAGE}.{thrown}: {msg}")


NOT_AUTHENTICATED = _error(
    "NotAuthenticated", "Authentication required.", thrown="NotAuthenticatedException"
)
REMOTE_AUTHENTICATION = _error("RemoteAuthenticationFailure", "Remote authentication failed.")
FORBIDDEN = _error("Forbidden", "Permission denied.", thrown="PermissionDeniedException")
CERTIFICATE_MISMATCH = _error(
    "CertificateMismatch",
    "Certificate differs from the expected one.",
    thrown="CertificateMismatchException",
)


def bad_user_input(msg: str, *args: str) -> ApiError:
    """400: an argument has no meaning here."""
    return _error("BadUserInput", msg, *args, thrown="BadUserInputException")


def bad_request(msg: str) -> ApiError:
    """400: the request can not be read."""
    return _error("BadRequest", msg, thrown="BadRequestException")


def site_not_found(site: str) -> ApiError:
    """The text is the user interface's (h4-api 2.3), the code that of /sessions/extend."""
    return _error(
        "SiteNotFound", f"Peer site '{site}' was not found", site, thrown="SiteNotFoundException"
    )


def unreachable(url: str) -> ApiError:
    """The code is unknown (h4-api 7); this one stands for "anything else"."""
    return _error("GeneralServerFailure", f"Cannot connect to {url}", url)


def already_paired(site: str) -> ApiError:
    """The code is unknown (h4-api 7)."""
    return bad_user_input(f"Site '{site}' is already paired.", site)


def unready(word: str) -> ApiError:
    """The code is unknown (h4-api 7)."""
    return _error("GeneralServerFailure", f"The appliance is not {word}.")


def too_far_apart(version: str) -> ApiError:
    """The code is unknown (h4-api 7)."""
    return bad_user_input(f"A site of version {version} can not be paired with.", version)


def replications_exist(site: str) -> ApiError:
    """The code is unknown (h4-api 2.1)."""
    return bad_user_input(f"There are replications with site '{site}'.", site)


def not_found(what: str) -> ApiError:
    """404 of a path or a thing whose code is unknown."""
    return _error("NotFound", f"{what} was not found", what, thrown="NotFoundException")


def lenient(code: str, msg: str) -> ApiError:
    """An error of the caller's choice, as faults want it."""
    return _error(code, msg)
