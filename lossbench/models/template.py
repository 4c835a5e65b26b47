"""What `lossbench new --backbone` writes: a network that works as it stands, to be changed line by line."""

from pathlib import Path

from lossbench.errors import InputError
from lossbench.models.backbones import BACKBONES
from lossbench.utils.plugin_file import refuse_name, write_template

_TEMPLATE = '''"""{title}, a network of your own. AUTHORS YEAR, arXiv:NUMBER."""

from torch import Tensor, nn


class Block(nn.Module):
    """The basic residual block, which halves the resolution. He et al. 2015, arXiv:1512.03385."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, inputs, H, W] -> [B, outputs, H / 2, W / 2]
        return (self.residual(x) + self.shortcut(x)).relu()


class {title}(nn.Module):
    """Images [B, 3, S, S] in 0..1 -> embeddings [B, embedding_dim], not normalised."""

    lr = 3e-3  # the peak learning rate that suits it

    def __init__(self, embedding_dim: int = 128, *, image_size: int = 64, dropout: float = 0.2):
        super().__init__()
        side = -(-image_size // 16)  # pixels left of four halvings; the last layer sees every place, as ArcFace's does
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.blocks = nn.Sequential(Block(32, 64), Block(64, 128), Block(128, 256))
        self.embedding = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(256 * side * side, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.embedding(self.blocks(self.stem(2 * images - 1)))
'''


def write_network(name: str, folder: Path) -> Path:
    """Write ``folder/NAME.py`` from the template and return its path; `name` may end with ``.py``.

    Raises:
        InputError: no name for a network, a name that is taken, a file that exists, or a folder that cannot be written.
    """
    name = name.removesuffix(".py")
    refuse_name(name, "network")
    if name in BACKBONES:
        raise InputError(f"a backbone called '{name}' exists already; choose another name")
    return write_template(name, folder, _TEMPLATE, "network")
