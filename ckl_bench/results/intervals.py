"""Intervals over probes: how far a mean could be off by the probes that happen to have been asked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

_AT_ONCE = 250_000  # values resampled at a time: memory does not grow with probes times probes (2 MB a copy)


def bootstrap_interval(
    *sets: Sequence[float], total: bool = False, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """95 % BCa interval of the mean, or with `total` the sum, of the sets' means over probes, from a fixed seed.

    Bias-corrected and accelerated (Efron 1987; Efron & Tibshirani 1993, section 14.3, and equation 15.36 for several
    sets), by `scipy.stats.bootstrap`. Each set is resampled by itself: sets weigh the same whatever their size.
    A paired difference has the interval of its probes' differences. A set whose values are all equal, one probe's
    among them, adds that value and no width; where every set is such, the interval is one point. Where BCa has no
    finite end (values so large or small that their cubes are not numbers), both ends are the percentile interval's
    (Efron 1979). Raises ValueError for no set, or one without values.
    """
    arrays = [np.asarray(values, dtype=np.float64) for values in sets]
    if not arrays or not all(map(len, arrays)):
        raise ValueError("an interval needs at least one set, and in every set at least one value")
    varying = [values for values in arrays if np.any(values != values[0])]
    point = sum(float(values[0]) for values in arrays if not np.any(values != values[0]))
    low, high = _bca(tuple(values.tobytes() for values in varying), seed, resamples) if varying else (0.0, 0.0)
    weight = 1 if total else len(arrays)
    return (point + low) / weight, (point + high) / weight


def _sum_of_means(*samples: Any, axis: int = -1) -> Any:
    # Rounded, as resamples with the same values in another order are the same resample: their rank decides the bias.
    return np.round(sum(values.mean(axis=axis) for values in samples), 12)


@lru_cache(maxsize=512)  # a process that stores one run after the other makes the same rows again and again
def _bca(packed: tuple[bytes, ...], seed: int, resamples: int) -> tuple[float, float]:
    """The BCa interval of the sum of the samples' means; of each the bytes of its float64 values."""
    from scipy.stats import bootstrap  # half a second, which only intervals need

    samples = [np.frombuffer(values) for values in packed]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what scipy warns of is what is caught below
        found = bootstrap(
            tuple(samples),
            _sum_of_means,
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, _AT_ONCE // max(map(len, samples))),
            method="BCa",
            rng=np.random.default_rng(seed),
        )
        low, high = found.confidence_interval
        if not (np.isfinite(low) and np.isfinite(high)):
            low, high = np.quantile(found.bootstrap_distribution, [0.025, 0.975])
    return float(low), float(high)
