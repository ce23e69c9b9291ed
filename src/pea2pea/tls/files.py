"""Errors of the files that hold this node's certificate and key. May import ``keyfile``."""

from __future__ import annotations

import os
from typing import NoReturn

from ..keyfile import File
from .errors import CertificateFileError


def bad_file(certificate: File) -> CertificateFileError:
    """Return the error of a certificate or key that OpenSSL cannot load."""
    problem = "contains no certificate in PEM format, or the private key is missing or does not match"
    return CertificateFileError(f"{os.fspath(certificate)}: {problem}")


def no_password() -> NoReturn:
    """Raise :class:`CertificateFileError`: encrypted keys are not supported."""
    raise CertificateFileError("the private key is encrypted: remove its password, and protect the file instead")
