"""Verdicts: whether what was found here agrees with the paper, question by question.

Questions of a cell, each with its t test (analysis.comparisons.Contrast), Holm-corrected over the rows of its column:

number     scale=paper: is it the paper's number? `reproduced`: at most SAME points away, with a standard error of at most NOISY
           (the paper's single run included; its problems are ours, so they are no noise); `not reproduced`: further away than
           SAME, and p < 0.05.
above base, against the reference row     Up, down or level, as in the paper? Level there: within SAME points of 0; here, the
           95 % interval is; away from it if more than SAME and p < 0.05. Up there: up here if p < 0.05, and not if the
           interval ends below SAME or a fifth of the paper's change. `direction reproduced` or `not reproduced`; where the
           paper has no number, `above`, `below` or `level`.

Where seeds end high or low (analysis.two_ends) a mean describes none of them, and the verdict speaks of the share of seeds that
ends high. Above base: up if surely more than half, down if surely fewer, `depends on the seed` if surely a tenth or more end
each way. Against another row: the difference of the two shares by seed, in which SAME_SHARE counts as level.

All else is `too noisy to say`, and nothing is said of fewer than SEEDS seeds. At another scale than the paper's, another model
meets other problems: only directions are compared, its numbers never confirm the paper's. Of a perfect reproduction
with 3 seeds whose sd is half a point, `number` says `reproduced` 9 times in 10 on the average of six and 8 on MATH500; of
one that is 3 points worse, 1 to 2 times in 10.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from analysis import comparisons
from analysis.comparisons import LEVEL, Contrast

SAME = 2.0
NOISY = 2.0
LITTLE = 0.2
SAME_SHARE = 25.0  # percent of the seeds
RARE = 10.0
TRIED = (6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48)  # seeds, to see whether a share would be settled
SEEDS = 3
NOISE = "too noisy to say"
FEW = "too few seeds"
DEPENDS = "depends on the seed"


@dataclass
class CellVerdict:
    """The answer to one question. p: corrected for the `tests` of a column; paper: the paper's number, NaN if it has none.

    seeds: of the side that has fewer. same: what counts as no difference, in the unit of the contrast; little: which share of
    the paper's change does. share: of the seeds that end high, or its difference from another row's, in percent; where it is
    given, the verdict speaks of it and not of the mean. ends: how many end high, in words.
    """

    question: str
    contrast: Contrast
    paper: float
    seeds: int
    p: float = float("nan")
    tests: int = 1
    same: float = SAME
    little: float = LITTLE
    share: Contrast | None = None
    ends: str = ""

    @property
    def tested(self) -> Contrast:
        return self.share or self.contrast

    @property
    def word(self) -> str:
        if self.seeds < SEEDS:
            return FEW
        if self.share is not None:
            return self._of_share(self.share, self.p)
        away = abs(self.contrast.value) > self.same
        if self.question == "number":
            sure = np.sqrt(self.contrast.variance) <= NOISY
            return "reproduced" if not away and sure else "not reproduced" if away and self.p < LEVEL else NOISE
        interval, found = self.contrast.interval, self.p < LEVEL
        level = -self.same <= interval.low and interval.high <= self.same
        if np.isnan(self.paper):
            return "level" if level else NOISE if not found else "above" if interval.value > 0 else "below"
        if abs(self.paper) <= self.same:
            return "direction reproduced" if level else "not reproduced" if away and found else NOISE
        # In the paper's direction: our upper end, and whether our change is significant.
        sign = np.sign(self.paper)
        most = max(sign * interval.low, sign * interval.high)
        if most <= max(self.same, self.little * abs(self.paper)):
            return "not reproduced"
        return "direction reproduced" if found and sign * interval.value > 0 else NOISE

    def _of_share(self, share: Contrast, p: float) -> str:
        """The word for a share of the seeds, or for a difference of shares; p: corrected."""
        interval, found, up = share.interval, p < LEVEL, share.value > share.null
        no_paper, level_in_paper = np.isnan(self.paper), abs(self.paper) <= SAME
        if share.paired:
            away = abs(share.value) > SAME_SHARE
            if interval.low >= -SAME_SHARE and interval.high <= SAME_SHARE:
                return "level" if no_paper else "direction reproduced" if level_in_paper else "not reproduced"
            if level_in_paper:
                return "not reproduced" if found and away else NOISE
        elif not found:
            return DEPENDS if interval.low >= RARE and interval.high <= 100 - RARE else NOISE
        if not found:
            return NOISE
        if no_paper:
            return "above" if up else "below"
        return "direction reproduced" if (self.paper > 0) == up else "not reproduced"

    @property
    def settles(self) -> str:
        """What would settle the question; empty if it is settled."""
        if self.word == FEW:
            return f"to settle this: at least {SEEDS} seeds each"
        if self.word != NOISE:
            return ""
        return f"to settle this: {self.needed} seeds each" if self.needed else "more seeds do not settle this"

    @cached_property
    def needed(self) -> int | None:
        """Seeds of each side that find a difference as large as ours, or as counts, four times in five; None: too many.

        Of a share: that would settle it if the further seeds ended as these did.
        """
        if self.share is not None:
            return next((n for n in TRIED if n > self.seeds and self._settled_by(self.share, n)), None)
        seeds = self.contrast.seeds_needed(max(abs(self.contrast.value), self.same), self.tests)
        return None if seeds is None else max(seeds, self.seeds + 1)

    def _settled_by(self, share: Contrast, seeds: int) -> bool:
        spread_out = np.quantile(share.of_seeds, (np.arange(seeds) + 0.5) / seeds, method="inverted_cdf")
        more = replace(share, value=float(spread_out.mean()), of_seeds=tuple(spread_out.tolist()))
        return self._of_share(more, more.p * self.tests) != NOISE

    @property
    def why(self) -> str:
        paper = "" if self.question == "number" or np.isnan(self.paper) else f", paper {self.paper:+.1f}"
        what = "difference from the paper" if self.question == "number" else self.question
        p = "" if np.isnan(self.p) else f", p {self.p:.2g}"
        share = f", {self.ends}" if self.share else ""
        return f"{what} {self.contrast.interval:+.1f}{share}{p}{paper}"


def corrected(verdicts: Sequence[CellVerdict]) -> None:
    """Holm's correction over questions of one table."""
    asked = [verdict for verdict in verdicts if verdict.seeds >= SEEDS and not np.isnan(verdict.tested.p)]
    for verdict, p in zip(asked, comparisons.holm([verdict.tested.p for verdict in asked]), strict=True):
        verdict.p, verdict.tests = float(p), len(asked)
