"""Pure functions on embeddings and scores. They know nothing of heads and runs."""

from lossbench.metrics.accuracy import (
    class_means,
    logit_accuracy,
    logit_hits,
    nearest_mean_accuracy,
    nearest_mean_hits,
)
from lossbench.metrics.clusters import (
    ClusterStatistics,
    alignment,
    cluster_statistics,
    effective_rank,
    kmeans_agreement,
    silhouette,
    total_variance,
    uniformity,
)
from lossbench.metrics.gallery import Cmc, Enrolment, OpenSet, cmc, enrol, open_set
from lossbench.metrics.geometry import AngleStatistics, angle_statistics
from lossbench.metrics.identification import IdentificationRate, identification_rate, identification_rate_of_files
from lossbench.metrics.multiplicity import holm
from lossbench.metrics.operating_point import DEFAULT_FPRS
from lossbench.metrics.retrieval import Retrieval, retrieval
from lossbench.metrics.templates import TemplateRates, pool_templates, template_rates, template_scores
from lossbench.metrics.threshold_transfer import ThresholdTransfer, threshold_transfer
from lossbench.metrics.uncertainty import Estimate, estimate
from lossbench.metrics.verification import Roc, Verification, auc, pair_scores, roc, verification

__all__ = [
    "DEFAULT_FPRS",
    "AngleStatistics",
    "ClusterStatistics",
    "Cmc",
    "Enrolment",
    "Estimate",
    "IdentificationRate",
    "OpenSet",
    "Retrieval",
    "Roc",
    "TemplateRates",
    "ThresholdTransfer",
    "Verification",
    "alignment",
    "angle_statistics",
    "auc",
    "class_means",
    "cluster_statistics",
    "cmc",
    "effective_rank",
    "enrol",
    "estimate",
    "holm",
    "identification_rate",
    "identification_rate_of_files",
    "kmeans_agreement",
    "logit_accuracy",
    "logit_hits",
    "nearest_mean_accuracy",
    "nearest_mean_hits",
    "open_set",
    "pair_scores",
    "pool_templates",
    "retrieval",
    "roc",
    "silhouette",
    "template_rates",
    "template_scores",
    "threshold_transfer",
    "total_variance",
    "uniformity",
    "verification",
]
