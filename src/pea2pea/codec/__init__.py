"""Codecs: what one is, and the ready ones. Pure; this module only hands names on.

The node needs no more than the two interfaces; the ready codecs are made with them, as any other.
"""

from .batches import KIB
from .interface import Buffer, Decoder, Encoder, Framing
from .ready import ACCELERATED, MIB, Delimited, Fixed, Landing, LengthDelimited, Raw, VarintDelimited

__all__ = [
    "ACCELERATED", "KIB", "MIB", "Buffer", "Decoder", "Delimited", "Encoder", "Fixed", "Framing", "Landing",
    "LengthDelimited", "Raw", "VarintDelimited",
]
