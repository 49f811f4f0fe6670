"""The shared exam: what every kernel, every feature map and every attention must satisfy, a user's own too.

    st.testing.examine_kernel(kernel)                    # series, Gram matrices, scaling, domain
    st.testing.examine_map(law, dim=4)                   # shapes, batches, seeds, libraries, mean, variance
    st.testing.examine_attention(attend, options=(...))  # V = 1, permutations, batches, causality, masks, blocks

Each returns an `Exam` to print, or raises `ExamFailed`, an ``AssertionError``, with the laws that fail, the numbers
found and their bounds. A law is one function with a sentence; adding one is adding it to its table.
"""

from schoenbat_theory.testing.attention import ATTENTION_LAWS, examine_attention
from schoenbat_theory.testing.exam import Exam, ExamFailed, Finding
from schoenbat_theory.testing.kernels import KERNEL_LAWS, examine_kernel
from schoenbat_theory.testing.maps import MAP_LAWS, examine_map

__all__ = [
    "ATTENTION_LAWS",
    "KERNEL_LAWS",
    "MAP_LAWS",
    "Exam",
    "ExamFailed",
    "Finding",
    "examine_attention",
    "examine_kernel",
    "examine_map",
]
