"""A backbone under examination: built as often as needed, and as in training.

Its weights are in channels_last, drawn from torch's generator, and it starts in training mode.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lossbench.models.backbones import backbone_info, build_backbone

BATCH, STEPS = 8, 3


@dataclass(frozen=True)
class Network:
    """A backbone under examination, with the settings that suit it; `dropout` is None where it takes none."""

    backbone: str
    embedding_dim: int
    image_size: int
    dropout: float | None

    def built(self, *, seed: int = 0, dropout: float = 0.0, **settings: int) -> nn.Module:
        """Return a fresh network in training mode, the same for the same seed."""
        length, side = settings.get("embedding_dim", self.embedding_dim), settings.get("image_size", self.image_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build_backbone(self.backbone, embedding_dim=length, image_size=side, dropout=dropout)
        return net.to(memory_format=torch.channels_last)

    def images(self, count: int = BATCH, *, seed: int = 0, image_size: int | None = None) -> Tensor:
        """Return coarse and fine random patterns [count, 3, S, S] in 0..1, as no two images are alike."""
        side = image_size or self.image_size
        generator = torch.Generator().manual_seed(seed)
        coarse = nn.functional.interpolate(torch.rand(count, 3, 8, 8, generator=generator), size=(side, side))
        images = 0.8 * coarse + 0.2 * torch.rand(count, 3, side, side, generator=generator)
        return images.to(memory_format=torch.channels_last)


def network_of(backbone: str) -> Network:
    """Return what is examined for a backbone.

    Args:
        backbone: a name, or a file, which is executed.

    Raises:
        InputError: no such backbone, or one that cannot be built.
    """
    info = backbone_info(backbone)
    network = Network(backbone, info.embedding_dim, info.image_size, info.dropout)
    network.built()
    return network


def steps(n: Network, net: nn.Module) -> Iterator[None]:
    """Train for `STEPS` steps towards random embeddings; yields before each change, when there are gradients."""
    generator = torch.Generator().manual_seed(1)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01) if trained else None
    for step in range(STEPS):
        target = torch.randn(BATCH, n.embedding_dim, generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step)
            loss = (net(n.images(seed=step)) - target).square().mean()
        net.zero_grad()
        loss.backward()
        yield
        if optimizer:
            optimizer.step()


def state_of(net: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all weights and buffers by name."""
    return {name: value.clone() for name, value in net.state_dict().items()}
