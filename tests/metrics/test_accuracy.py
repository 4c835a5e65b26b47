"""Accuracies against scikit-learn and plain loops."""

import math

import torch
from sklearn.metrics import accuracy_score
from sklearn.neighbors import NearestCentroid

from lossbench.metrics import class_means, logit_accuracy, nearest_mean_accuracy


def test_logit_accuracy_equals_scikit_learn():
    torch.manual_seed(0)
    logits, labels = torch.randn(100, 6), torch.randint(6, (100,))
    assert logit_accuracy(logits, labels) == accuracy_score(labels, logits.argmax(1))
    assert math.isnan(logit_accuracy(logits[:0], labels[:0]))


def test_nearest_mean_equals_scikit_learns_centroids_of_unit_vectors():
    """On the sphere the nearest centroid by Euclid is the nearest by cosine, once the means are unit vectors."""
    torch.manual_seed(1)
    train, labels = torch.randn(60, 5).double(), torch.arange(60) % 6
    test, own = torch.randn(200, 5).double(), torch.randint(6, (200,))
    oracle = NearestCentroid()
    unit = torch.nn.functional.normalize(train, dim=1)
    oracle.fit(unit, labels)
    oracle.centroids_ /= (oracle.centroids_**2).sum(1, keepdims=True) ** 0.5
    expected = accuracy_score(own, oracle.predict(torch.nn.functional.normalize(test, dim=1)))
    assert nearest_mean_accuracy(test, own, train, labels) == expected


def test_a_class_without_training_images_is_never_hit():
    train, labels = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([0, 2])
    assert class_means(train, labels, 3)[1].isnan().all()
    assert nearest_mean_accuracy(torch.tensor([[-1.0, -1]]), torch.tensor([1]), train, labels) == 0.0
