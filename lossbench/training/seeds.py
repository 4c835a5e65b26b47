"""Where every random draw of a run comes from, and the weights it starts from."""

import hashlib
from collections.abc import Callable

import torch
from torch import nn

from lossbench.config import Config
from lossbench.losses.head import Head
from lossbench.losses.loading import load_head
from lossbench.losses.spec import Spec
from lossbench.models.backbones import build_backbone


def seed_of(*purpose: object) -> int:
    """Return a seed for one purpose: 63 bits of the SHA-256 of its parts."""
    return int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8]) >> 1


def generator_of(*purpose: object) -> torch.Generator:
    """Return a CPU generator seeded by `seed_of`."""
    return torch.Generator().manual_seed(seed_of(*purpose))


def initial_backbone(config: Config, repeat: int, on_note: Callable[[str], None] = lambda text: None) -> nn.Module:
    """Return the backbone that all entrants of a repeat start from, on the CPU.

    Args:
        config: resolved settings.
        repeat: from 0.
        on_note: receives what was loaded of a file of weights.
    """
    assert config.backbone is not None
    assert config.dropout is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, repeat, "backbone"))
        return build_backbone(
            config.backbone,
            embedding_dim=config.embedding_dim,
            image_size=config.image_size,
            dropout=config.dropout,
            pretrained=config.pretrained,
            on_note=on_note,
        )


def initial_head(config: Config, spec: Spec, repeat: int, num_classes: int) -> Head:
    """Return the fresh head of one entrant; heads with weights of one shape start from the same ones."""
    assert config.embedding_dim is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, repeat, "head"))
        return load_head(spec, num_classes=num_classes, embedding_dim=config.embedding_dim)
