"""How torchrun has started this process: one of several that train one model together. Without torch."""

import os
from typing import NamedTuple


class Launch(NamedTuple):
    """This process's number among `size`, and its number on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def silent(self) -> bool:
        """Whether another process prints and writes for this one."""
        return self.rank > 0


def launch() -> Launch:
    """Return what the environment says: one process alone, unless torchrun or the like has set all it sets.

    Example:
        >>> launch()
        Launch(rank=0, size=1, local_rank=0)
    """
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ["LOCAL_RANK"])
        int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError):
        return Launch()
    return Launch(rank, size, local_rank) if size > 1 and os.environ.get("MASTER_ADDR") else Launch()
