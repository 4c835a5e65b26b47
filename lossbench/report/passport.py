"""The passport of a loss as a figure and as a table."""

import math
from pathlib import Path

from lossbench.conformance.passport import STEPS, Passport
from lossbench.errors import InputError
from lossbench.utils.files import whole_file
from lossbench.utils.text import file_name

_PANELS = (
    ("target_logit", "target logit"),
    ("loss", "loss"),
    ("gradient", "gradient"),
)
_SHOWN = range(0, 181, 30)  # degrees in the table


def table_rows(found: Passport) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows to print: target logit, loss and gradient of each loss, every 30 degrees."""
    headers = ["degrees", *(f"{curve.name} {title}" for curve in found.curves for _, title in _PANELS)]
    rows = []
    for degrees in _SHOWN:
        i = round(degrees / 180 * (STEPS - 1))
        values = [float(getattr(curve, name)[i]) for curve in found.curves for name, _ in _PANELS]
        rows.append([str(degrees), *("–" if math.isnan(v) else f"{v:.4g}" for v in values)])
    return headers, rows


def write_passport(found: Passport, folder: Path) -> list[Path]:
    """Write ``passport-NAME.csv``, ``.svg`` and ``.png`` into `folder` and return their paths.

    Raises:
        InputError: the folder cannot be written.
    """
    import pandas as pd
    import seaborn as sns
    from matplotlib.figure import Figure

    frame = pd.concat(
        pd.DataFrame(
            {"degrees": curve.theta.rad2deg(), "name": curve.name, **{n: getattr(curve, n) for n, _ in _PANELS}}
        )
        for curve in found.curves
    ).reset_index(drop=True)
    with sns.axes_style("whitegrid"):
        drawing = Figure(figsize=(12, 3.8), layout="constrained")
        axes = drawing.subplots(1, 3)
    for ax, (column, title) in zip(axes, _PANELS, strict=True):
        sns.lineplot(
            frame, x="degrees", y=column, hue="name", style="name", palette="colorblind", ax=ax, legend=ax is axes[0]
        )
        ax.set(
            xlabel="angle to the own class center (degrees)",
            ylabel="gradient norm x embedding norm" if column == "gradient" else title,
            xlim=(0, 180),
            xticks=range(0, 181, 30),
        )
    if (frame["loss"] > 1e-12).all():
        axes[1].set_yscale("log")
    axes[0].legend(title=None)
    drawing.suptitle("; ".join([found.curves[0].name, *found.units, *(f"FLAG {f}" for f in found.flags)])[:180], size=9)
    paths = [folder / f"passport-{file_name(found.curves[0].name)}.{kind}" for kind in ("csv", "svg", "png")]
    try:
        with whole_file(paths[0]) as file:
            frame.to_csv(file, index=False, float_format="%.8g")
        with whole_file(paths[1]) as file:
            drawing.savefig(file, format="svg", metadata={"Date": None})
        with whole_file(paths[2]) as file:
            drawing.savefig(file, format="png", dpi=110, metadata={"Software": None})
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another --out") from error
    return paths
