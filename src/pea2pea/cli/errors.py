"""What goes wrong in the command, and the one line that says so. Pure; imports the core's errors."""

from __future__ import annotations

import errno
import os

from pea2pea import ConnectError, Pea2PeaError


class CliError(Exception):
    """Something that the user must know and can act on. Its text is the line on standard error."""


class FileChangedError(CliError):
    """A shared file is no longer what was hashed."""


class PeerFaultError(Exception):
    """A peer broke the rules of the exchange; its connection ends, nothing else."""


class ProofError(PeerFaultError):
    """A chunk that is not part of the wanted file: its peer lies, or its disk does."""


class WrongFileError(PeerFaultError):
    """A peer offers another file than the wanted one."""


#: What the system calls a full disk: no space, over quota, or over the largest file that it takes.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explain(error: BaseException) -> str:
    """Return the one line that tells a user about ``error``."""
    if isinstance(error, CliError):
        return str(error)
    if isinstance(error, Pea2PeaError):
        return _with_cause(error)
    if isinstance(error, OSError):
        return _system(error)
    return f"{type(error).__name__}: {error}"


def why_unreachable(error: ConnectError) -> str:
    """Return what is in the way of a connection, without the address."""
    cause = error.__cause__
    return _system(cause) if isinstance(cause, OSError) else explain(error)


def _system(error: OSError) -> str:
    """Return what the system says; asyncio's words for a failed dial hide it behind the number."""
    where = f": {error.filename}" if error.filename else ""
    if error.errno in FULL:
        return f"the disk is full{where}"
    if (error.errno or 0) > 0 and not isinstance(error, Pea2PeaError):
        return f"{os.strerror(error.errno or 0).lower()}{where}"
    if isinstance(error, TimeoutError):
        return "timed out"
    return f"{(error.strerror or str(error) or type(error).__name__).lower()}{where}"


def _with_cause(error: BaseException) -> str:
    """Return the text of ``error``, and that of its cause unless it says the same."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    cause = error.__cause__
    if cause is None:
        return text
    reason = explain(cause)
    return text if reason.lower() in text.lower() else f"{text}: {reason}"
