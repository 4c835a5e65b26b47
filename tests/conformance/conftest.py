"""What tests of several properties share."""

import pytest


@pytest.fixture
def settled_soon(monkeypatch):
    """Settle a schedule after 3 steps, for losses that have none that takes 2,000."""
    monkeypatch.setattr("lossbench.conformance.probe._SETTLE", 3)
