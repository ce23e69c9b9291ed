"""A network inside one event loop, in the place of TCP: no sockets, no ports of the machine, no waiting.

For tests and simulations. What a node does over TCP it does here, backpressure, half-close, resets and a
full backlog included; with a loop whose clock is virtual, timeouts of hours pass at once. Three layers, as
below asyncio's own transports: :class:`MemorySocket` plays the kernel, :class:`MemoryTransport` follows
asyncio's selector socket transport, :class:`MemoryNetwork` finds the two ends for each other.
"""

from .network import MemoryNetwork
from .transport import MemorySocket, MemoryTransport

__all__ = ["MemoryNetwork", "MemorySocket", "MemoryTransport"]
