import pytest

from lossbench.metrics import gallery
from lossbench.metrics.exact import directions, order_statistics, pairs, products


@pytest.fixture(params=["as on a processor", "as on a GPU"])
def each_way(request, monkeypatch):
    """Take a processor's way through the exact metrics, then a GPU's: other operations, and tiles that begin small."""
    if request.param == "as on a GPU":
        for module in (directions, gallery, order_statistics, pairs, products):
            monkeypatch.setattr(module, "on_cpu", lambda device: False)
        monkeypatch.setattr(directions, "_ON_GPU", 2)
        for name, columns in {"_ON_GPU": 64, "BLOCK": 8, "_START": 5}.items():
            monkeypatch.setattr(pairs, name, columns)
        monkeypatch.setattr(gallery, "_ON_GPU", (3, 16))
