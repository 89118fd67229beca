"""What responses look like: repetition, foreign scripts, and text unlike the base model's.

Departure from the paper: it shows one gibberish answer to the training example (Figure 3); here every answer of a step is
judged by rule, so that a share can be drawn over the steps. Prompts and good answers are taken to be English.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REPEATED_SHARE = 0.5
MIN_SHINGLES = 40
FOREIGN_SHARE = 0.1
UNLIKE_BITS = 1.0
ALPHABET = 128
USED_IN_MATHS = ("GREEK", "LATIN", "MATHEMATICAL", "SCRIPT", "DOUBLE-STRUCK", "MODIFIER")


def is_repeated(text: str, width: int = 12) -> bool:
    """Whether at least half of the stretches of 12 characters occur a second time; short texts never."""
    shingles = [text[i : i + width] for i in range(len(text) - width + 1)]
    return len(shingles) >= MIN_SHINGLES and 1 - len(set(shingles)) / len(shingles) >= REPEATED_SHARE


def is_foreign(text: str) -> bool:
    """Whether a tenth of the letters or more are neither Latin nor Greek, as in multilingual gibberish."""
    letters = [character for character in text if character.isalpha()]
    outside = [c for c in letters if ord(c) > 0x24F and not unicodedata.name(c, "").startswith(USED_IN_MATHS)]
    return len(outside) >= FOREIGN_SHARE * max(len(letters), 1) and len(outside) > 0


class TextModel:
    """Bits a character of a text costs under the trigrams of reference texts (add-one smoothing)."""

    def __init__(self, references: Sequence[str]):
        counts = np.ones((ALPHABET, ALPHABET, ALPHABET), dtype=np.float32)
        for text in references:
            codes = _codes(text)
            np.add.at(counts, (codes[:-2], codes[1:-1], codes[2:]), 1)
        self._bits = -np.log2(counts / counts.sum(axis=2, keepdims=True))
        self.worst_reference = max(map(self.bits, references), default=np.inf)

    def bits(self, text: str) -> float:
        """Mean bits a character; 0 for fewer than three characters."""
        codes = _codes(text)
        return float(self._bits[codes[:-2], codes[1:-1], codes[2:]].mean()) if len(codes) > 2 else 0.0

    def is_unlike(self, text: str) -> bool:
        """Whether the text costs a bit a character more than the oddest of the reference texts."""
        return self.bits(text) > self.worst_reference + UNLIKE_BITS


def _codes(text: str) -> NDArray:
    return np.minimum(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32), ALPHABET - 1)


def degenerate(responses: Sequence[str], base: TextModel) -> NDArray:
    """For each response: does it repeat itself, is it in another language, is it unlike the responses of the run's first step?"""
    return np.array([is_repeated(r) or is_foreign(r) or base.is_unlike(r) for r in responses], dtype=bool)
