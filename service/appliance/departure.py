"""The moment at which a mutating call leaves: whether it may, and whether it did."""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import cast

from aiohttp import BytesPayload
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from service.appliance.exchange import Permit

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Departure(BytesPayload):
    """The body of a mutating call, which asks for the permit when its turn to be written comes.

    aiohttp keeps the headers back until the first piece of the body, even an empty one, so this is
    the moment right before the first byte. It may be a turn of the loop after the connection was
    got (Python 3.11 writes bodies in a task of their own), in which a worker may lose its lease.
    """

    def __init__(self, body: bytes, permit: Permit) -> None:
        super().__init__(body)
        self.has_begun = False
        self._permit = permit
        self._refusal: Exception | None = None
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Called by aiohttp to write the body; what is raised here becomes an error of its own."""
        transport = cast("StreamWriter", writer).transport
        if transport is None or transport.is_closing():
            raise ConnectionAbortedError("the connection was closed before the call left")
        try:
            self._permit()
        except Exception as refusal:
            self._refusal = refusal
            raise
        self.has_begun = True
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        await super().write_with_length(writer, content_length)

    def raise_refusal(self) -> None:
        """Raise what the permit raised, if it did."""
        if self._refusal is not None:
            raise self._refusal from None

    def arrived(self) -> None:
        """The call was answered: there is nothing left to hold back."""
        self._transport = None

    def withdraw(self) -> None:
        """Nothing more of a call that was not answered leaves from now on.

        Not even the kernel sends again what a broken network has kept from arriving: later it
        would meet an appliance that another worker looks after.
        """
        transport, self._transport = self._transport, None
        if transport is not None:
            if self._socket is not None:
                with suppress(OSError):  # It may be closed by now.
                    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
