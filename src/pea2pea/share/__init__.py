"""File sharing between peers: an application on the public API of pea2pea, used by the command ``pea2pea``.

It imports names from ``pea2pea``, ``pea2pea.noise``, ``pea2pea.tls`` and the standard library, and uvloop if
it is installed. Its modules, each importing only those above it::

    errors    the errors, and the one line that describes one      pure
    tree      the SHA-256 tree over a file's chunks                pure
    mode      the ways to secure a connection                      pure
    link      pea2pea://HOST:PORT/ROOT/NAME                        pure
    wire      the messages between two nodes                       pure
    plan      which chunk to request from which peer               pure
    progress  how the jobs report what they do                     pure
    files     reading, writing and hashing files
    store     the chunks of a complete file
    partial   the chunks of a file that is being downloaded
    security  no encryption, Noise or TLS
    exchange  the state of the exchange with one peer
    asker     a node that asks what is shared
    pacer     a limit on a rate
    swarm     the node that serves and fetches chunks
    pursuit   dialling for a swarm
    jobs      share_file and get_file
    runner    running a coroutine as a program
    child     one node of a crowd, a process
    crowd     many of them

A root hash is all that has to be trusted: each chunk is verified against it when it arrives, and the file
on disk again before it gets its name. Without Noise or TLS nothing is confidential: anyone who can connect
gets the file, and anyone on the path can read it.
"""

from .asker import Asker
from .errors import FileChangedError, PeerFaultError, ShareError, explain
from .jobs import Limits, get_file, share_file
from .link import Link
from .mode import Mode
from .partial import PartialStore, resume
from .progress import Progress, Silence
from .pursuit import pursuing
from .security import Security
from .store import Store, open_whole
from .swarm import Swarm
from .tree import Target

__all__ = [
    "Asker",
    "FileChangedError",
    "Limits",
    "Link",
    "Mode",
    "PartialStore",
    "PeerFaultError",
    "Progress",
    "Security",
    "ShareError",
    "Silence",
    "Store",
    "Swarm",
    "Target",
    "explain",
    "get_file",
    "open_whole",
    "pursuing",
    "resume",
    "share_file",
]
