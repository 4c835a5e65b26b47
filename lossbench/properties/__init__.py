"""The properties of `lossbench.conformance`; importing this enters them in the order in which they are asked."""

from importlib import import_module

for _name in ("numbers", "margins", "states", "slow"):
    import_module(f"lossbench.properties.{_name}")
