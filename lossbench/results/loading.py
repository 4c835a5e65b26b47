"""What a notebook loads: a benchmark's runs as a DataFrame, and the trained backbone of one of them."""

from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.results.benchmark_folder import read_benchmark
from lossbench.results.metric_fields import runs_frame
from lossbench.results.store import find_run
from lossbench.results.weights import load_backbone as trained_backbone

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

_SETTINGS = ("data", "backbone", "image_size", "embedding_dim")  # that tell benchmarks apart in a joint table


def load_results(folder: str | Path) -> "pd.DataFrame":
    """Return one row per run of a benchmark: of its latest settings, as in its report.

    Among the columns are ``entrant`` and ``repeat``, ``status`` (finished or failed, with its ``reason``), ``folder``
    (of the run), what all runs share (``data``, ``backbone``, ``image_size``, ``embedding_dim``), and every figure
    under its key in run.json: ``test_accuracy``, ``tpr@0.01`` (the identification rate at that false-positive rate).
    A figure that was not measured is NaN. `lossbench explain` says what each is.

    Args:
        folder: a benchmark's folder, such as results/orl.

    Raises:
        InputError: there is no such folder, no run in it, or a damaged record.

    Example:
        >>> import lossbench, tempfile
        >>> folder = Path(tempfile.mkdtemp(), "orl")
        >>> made = lossbench.run("ce", epochs=1, repeats=1, image_size=32, out=folder.parent, quiet=True)
        >>> runs = lossbench.load_results(folder)
        >>> runs[["entrant", "repeat", "status", "backbone", "image_size"]]
             entrant  repeat    status backbone  image_size
        0  untrained       0  finished     tiny          32
        1         ce       0  finished     tiny          32
        >>> bool(runs.set_index("entrant")["tpr@0.1"].between(0, 1).all())
        True
    """
    found = read_benchmark(Path(folder))
    frame = runs_frame(found.records)
    after = frame.columns.get_loc("accuracy_by")
    assert isinstance(after, int)
    frame.insert(after + 1, "folder", [record["folder"] for record in found.records])
    for place, name in enumerate(_SETTINGS, after + 2):
        frame.insert(place, name, found.settings[name])
    return frame


def load_backbone(run: str | Path, *, network: str | Path | None = None) -> "nn.Module":
    """Return the trained backbone of a finished run, on the CPU, in evaluation mode.

    It maps images [B, 3, S, S], RGB as float32 in 0..1, to embeddings [B, D], float32, not normalised. S is the run's
    ``image_size`` and D its ``embedding_dim`` (see `load_results`). Its input normalisation is part of it.

    Args:
        run: the folder of a run, or of a benchmark with a single finished run.
        network: the file of a network of your own, ``my_net.py``, where the run was trained with one: it is executed,
            and no file is executed because a record names it.

    Raises:
        RunDamaged: weights that are missing, damaged or do not fit.
        InputError: no finished run there, or `network` is missing, or not the file that was trained.

    Example:
        >>> import lossbench, tempfile, torch
        >>> runs = lossbench.run("ce", epochs=1, repeats=1, image_size=32, out=tempfile.mkdtemp(), quiet=True)
        >>> backbone = lossbench.load_backbone(runs.folder[1])
        >>> with torch.inference_mode():
        ...     embeddings = backbone(torch.rand(2, 3, 32, 32))
        >>> embeddings.shape
        torch.Size([2, 128])
    """
    import torch

    record = find_run(Path(run))
    with torch.random.fork_rng(devices=[]):  # building it draws weights, which those of the run replace
        return trained_backbone(record, network=None if network is None else str(network))
