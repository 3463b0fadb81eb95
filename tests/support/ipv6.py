"""Whether this machine has IPv6, which many a container has not."""

import errno
import socket


def has_ipv6() -> bool:
    """Whether anybody can listen on its loopback address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
            raise
        return False
    return True
