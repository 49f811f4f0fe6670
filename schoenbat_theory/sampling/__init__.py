"""Replicates by the million: streams at addresses, batches of them, and samplers that know means without forming replicates.

streams  a generator that belongs to an address
batches  replicates in chunks, and the means of batches that every look at a mean is made of
outer    outer products, whose means are matrix products
signs    signs from bits, and products of signs 64 to a word
"""

from schoenbat_theory.sampling.batches import BATCHES, CHUNK, Batched, batch_means, chunks, replicates
from schoenbat_theory.sampling.outer import OuterProducts
from schoenbat_theory.sampling.signs import SignProducts, sign_sums, signs
from schoenbat_theory.sampling.streams import stream

__all__ = [
    "BATCHES",
    "CHUNK",
    "Batched",
    "OuterProducts",
    "SignProducts",
    "batch_means",
    "chunks",
    "replicates",
    "sign_sums",
    "signs",
    "stream",
]
