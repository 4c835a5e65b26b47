"""Pure functions on embeddings and scores. They know nothing of heads, runs or files."""

from lossbench.metrics.accuracy import (
    class_means,
    logit_accuracy,
    logit_hits,
    nearest_mean_accuracy,
    nearest_mean_hits,
)
from lossbench.metrics.geometry import AngleStatistics, angle_statistics
from lossbench.metrics.identification import DEFAULT_FPRS, IdentificationRate, identification_rate
from lossbench.metrics.uncertainty import Estimate, estimate, holm
from lossbench.metrics.verification import Verification, pair_scores, verification

__all__ = [
    "DEFAULT_FPRS",
    "AngleStatistics",
    "Estimate",
    "IdentificationRate",
    "Verification",
    "angle_statistics",
    "class_means",
    "estimate",
    "holm",
    "identification_rate",
    "logit_accuracy",
    "logit_hits",
    "nearest_mean_accuracy",
    "nearest_mean_hits",
    "pair_scores",
    "verification",
]
