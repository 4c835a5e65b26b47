"""What `lossbench new` writes: a margin loss that works as it stands, to be changed line by line."""

from pathlib import Path

from lossbench.errors import InputError
from lossbench.losses.plugin import UNTRAINED
from lossbench.losses.registry import find_plugins
from lossbench.utils.plugin_file import refuse_name, write_template

_TEMPLATE = '''"""{title}, a margin of your own. AUTHORS YEAR, arXiv:NUMBER, eq. N."""

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class {title}(Head):
    """Cross-entropy on s·(cos(theta_y) - m·(1 - cos(theta_y)/2)): the margin is largest for hard images."""

    plain_at = "margin=0"  # where it is the plain softmax of s·cos(theta); `lossbench check` tests it

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.3, scale: float = 64.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))  # one center per row

    def push(self, own: Tensor) -> Tensor:  # [B] cosines with the own class -> [B]
        return own - self.margin * (1 - own / 2)

    # A loss that is a sum over all classes, and no softmax: lossbench.sum_over_classes, as plugins/uniface.py has it.
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:  # [B, D], [B] -> one number
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
'''


def write_plugin(name: str, folder: Path) -> Path:
    """Write ``folder/NAME.py`` from the template and return its path; `name` may end with ``.py``.

    Raises:
        InputError: no name for a loss, a name that is taken, a file that exists, or a folder that cannot be written.
    """
    name = name.removesuffix(".py")
    refuse_name(name, "loss", reserved=UNTRAINED)
    if name in (known := find_plugins()):
        raise InputError(f"a loss called '{name}' exists already ({known[name].path}); choose another name")
    return write_template(name, folder, _TEMPLATE, "loss")
