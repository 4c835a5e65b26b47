"""Commands that use a finished run's model; here embed. torch is imported only when a command needs it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossbench.cli.completion import complete_backbones, complete_device
from lossbench.cli.options import speaks
from lossbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossbench.results.store import Record

Backbone = Annotated[
    str | None,
    typer.Option(
        help="The file of the runs' own network, ./my_net.py: only what is named is executed.",
        autocompletion=complete_backbones,
    ),
]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu or cuda.", autocompletion=complete_device)]


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(speaks(embed))


def embed(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    folder: Annotated[
        Path, typer.Argument(help="A folder whose images are embedded, at any depth; or a prepared set.")
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")] = Path("embeddings.npz"),
    backbone: Backbone = None,
    device: Device = "auto",
) -> None:
    """Write the embeddings of all images below a folder, for use elsewhere.

    The file holds two arrays: embeddings, [N, D] float32, not normalised; and files, [N] paths below the folder. An
    image of train.rec is called PART/PERSON/KEY.
    """
    from lossbench.cli import console
    from lossbench.cli.evaluation_tables import names_note, unlisted_note
    from lossbench.data.catalogue import open_images
    from lossbench.data.left_out import left_out
    from lossbench.data.set_files import is_packed

    if out.suffix != ".npz":
        raise InputError(f"--out {out} is not an .npz file; use a name that ends in .npz")
    from lossbench.results.store import refuse_unwritable

    refuse_unwritable(out, "--out")
    files, names = open_images(folder)
    if not is_packed(folder) and (ignored := left_out(folder, files, people=False)):
        console.say(f"note: left out: {ignored}")
    from lossbench.evaluation.evaluate import embed_folder, known_names
    from lossbench.results.store import find_run
    from lossbench.utils.device import device_of

    record = find_run(run)
    refuse_unused(backbone, [record])
    with console.counting("decoding images") as progress:
        count, length = embed_folder(
            record, files, names, out, network=backbone, device=device_of(device), on_progress=progress
        )
    console.step(f"wrote {out}: embeddings [{count}, {length}], not normalised, and files [{count}]")
    known = known_names(record, {part for name in names for part in Path(name).parts[:-1]})
    if known is None:
        console.say(unlisted_note([record]))
    if known:
        console.say(f"{names_note(known, [record])}; if they are the same people, the model has seen them")


def refuse_unused(backbone: str | None, records: "Sequence[Record]") -> None:
    """Refuse a network's file that none of the runs was trained with.

    Raises:
        InputError: none was.
    """
    from lossbench.results.weights import own_network

    if backbone is not None and not any(map(own_network, records)):
        raise InputError(f"--backbone {backbone} is not used: these runs' backbone is no file of your own; drop it")
