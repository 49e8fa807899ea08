"""Head starts: how much earlier an image counts as having arrived. They are the boost of the order γ-Boost."""

from __future__ import annotations

import math

SPARE_CAPACITY = 0.4
"""The share of its time in which a device is taken to have no work. Less of it favours short images more, and has a
longer tail as long as it is not so busy for thousands of images on end."""
_FORGETTING = 0.99
_LEAST_SHARE = 1e-3


class HeadStarts:
    """Head starts by the time that images still take: the shorter, the longer, and none for the longest.

    An image that still takes ``w`` seconds counts as having come ``-ln(1 - exp(-γ w)) / γ`` seconds earlier than it
    did. No order of service has fewer very late ones, first come, first served included (Yu and Scully, "Strongly
    Tail-Optimal Scheduling in the Light-Tailed M/G/1", 2024, https://arxiv.org/abs/2404.08826). ``γ`` is how fast the
    tail of waiting times falls off, of which ``2 (1 - load) E[S] / E[S²]`` is an estimate, where images take ``S``
    seconds (Kingman's for heavy traffic, https://doi.org/10.1017/S0305004100036094).
    """

    def __init__(self) -> None:
        self._sum = 0.0
        self._sum_of_squares = 0.0

    def note(self, seconds: float) -> None:
        """Record an image, by the seconds that it takes alone."""
        self._sum = _FORGETTING * self._sum + seconds
        self._sum_of_squares = _FORGETTING * self._sum_of_squares + seconds**2

    @property
    def usual_seconds(self) -> float:
        """Mean duration of the image in work at a random moment, when longer ones are met more often; 0 at first."""
        return self._sum_of_squares / self._sum if self._sum else 0.0

    def of(self, seconds_left: float) -> float:
        """The head start of an image that still takes so many seconds alone; bounded, however few they are."""
        if not self.usual_seconds:
            return 0.0
        scale = self.usual_seconds / (2 * SPARE_CAPACITY)
        return -scale * math.log(-math.expm1(-max(_LEAST_SHARE, seconds_left / scale)))
