"""The errors of file sharing, and the one line that describes an error to a user. Pure; imports the core's errors."""

from __future__ import annotations

import errno
import os

from pea2pea import CodecError, ConnectError, HandshakeError, Pea2PeaError


class ShareError(Exception):
    """An error that the user can act on. Its text is complete: it is shown as it is."""


class FileChangedError(ShareError):
    """A shared file was modified after it had been hashed."""


class PeerFaultError(CodecError):
    """A peer violated the protocol. Its connection is closed; nothing else is affected."""


class ProofError(PeerFaultError):
    """A chunk is not part of the file that is being downloaded: the peer sent wrong data."""


class WrongFileError(PeerFaultError):
    """A peer shares another file than the one that is being downloaded."""


#: How the system reports a full disk: no space, quota exceeded, or larger than the largest file allowed.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explain(error: BaseException) -> str:
    """Return one line that describes ``error`` to a user."""
    if isinstance(error, ShareError):
        return str(error)
    if isinstance(error, Pea2PeaError):
        return _with_cause(error)
    if isinstance(error, OSError):
        return _system(error)
    return f"{type(error).__name__}: {error}"


def why_unreachable(error: ConnectError) -> str:
    """Return why a connection failed, without the address."""
    cause = error.__cause__
    if isinstance(cause, PeerFaultError):
        return str(cause)
    if isinstance(error, HandshakeError) and isinstance(cause, TimeoutError):
        return "it accepted the connection but did not answer: is a file shared there?"
    if isinstance(cause, EOFError):
        return "it closed the connection during the handshake"
    return _system(cause) if isinstance(cause, OSError) else explain(error)


def _system(error: OSError) -> str:
    """Return the system's description; that of asyncio for a failed dial only repeats the address and the number."""
    where = f": {error.filename}" if error.filename else ""
    if error.errno in FULL:
        return f"the disk is full{where}"
    if (error.errno or 0) > 0 and not isinstance(error, Pea2PeaError):
        return f"{os.strerror(error.errno or 0).lower()}{where}"
    if isinstance(error, TimeoutError):
        return "timed out"
    return f"{(error.strerror or str(error) or type(error).__name__).lower()}{where}"


def _with_cause(error: BaseException) -> str:
    """Return the text of ``error``, followed by that of its cause unless it contains it already."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    cause = error.__cause__
    if cause is None:
        return text
    reason = explain(cause)
    return text if reason.lower() in text.lower() else f"{text}: {reason}"
