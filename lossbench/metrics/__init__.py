"""Pure functions on embeddings and scores. They know nothing of heads, runs or files."""

from lossbench.metrics.accuracy import class_means, logit_accuracy, nearest_mean_accuracy
from lossbench.metrics.geometry import AngleStatistics, angle_statistics
from lossbench.metrics.identification import DEFAULT_FPRS, IdentificationRate, identification_rate
from lossbench.metrics.statistics import Comparison, Interval, compare, holm, mean_interval
from lossbench.metrics.verification import Verification, pair_scores, verification

__all__ = [
    "DEFAULT_FPRS",
    "AngleStatistics",
    "Comparison",
    "IdentificationRate",
    "Interval",
    "Verification",
    "angle_statistics",
    "class_means",
    "compare",
    "holm",
    "identification_rate",
    "logit_accuracy",
    "mean_interval",
    "nearest_mean_accuracy",
    "pair_scores",
    "verification",
]
