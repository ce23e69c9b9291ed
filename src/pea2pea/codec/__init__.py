"""Codecs: what one is, and the ready ones. Pure; this module only re-exports.

The node needs only the two interfaces. The ready codecs are made with them, like any other.
"""

from .batches import KIB
from .interface import Buffer, Decoder, Encoder, Framing
from .mapped import Codec
from .ready import ACCELERATED, MIB, Delimited, Fixed, Landing, LengthDelimited, Raw, VarintDelimited

__all__ = [
    "ACCELERATED", "KIB", "MIB", "Buffer", "Codec", "Decoder", "Delimited", "Encoder", "Fixed", "Framing", "Landing",
    "LengthDelimited", "Raw", "VarintDelimited",
]
