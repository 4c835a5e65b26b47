"""What `evaluate` was asked for: its options, checked before any work."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.errors import InputError
from lossbench.utils.text import clipped, comma_list

if TYPE_CHECKING:
    from lossbench.data.templates import TemplateSet
    from lossbench.models.onnx_file import InputOptions


def input_options(image_size: int | None, mean: str | None, std: str | None, channels: str | None) -> "InputOptions":
    """Return how a network from elsewhere is fed.

    Raises:
        InputError: an option is out of its range.
    """
    from lossbench.models.onnx_file import InputOptions

    def numbers(option: str, text: str | None, least: float) -> tuple[float, ...] | None:
        if text is None:
            return None
        items = comma_list(text, option)
        try:
            found = tuple(float(item) for item in items)
        except ValueError:
            found = ()
        if len(found) not in (1, 3) or not all(least < one < 1e6 for one in found):
            rule = "above 0 " if least == 0 else ""
            raise InputError(
                f"{option} '{clipped(text)}' should be one number {rule}or three: 127.5 or 123.7,116.3,103.5"
            )
        return found

    if channels not in (None, "rgb", "bgr"):
        raise InputError(f"--channels '{clipped(channels)}' is unknown; choose rgb or bgr")
    if image_size is not None and not 8 <= image_size <= 1024:
        raise InputError(f"--image-size {image_size} is out of range; use 8 to 1024 pixels")
    return InputOptions(image_size, numbers("--mean", mean, -1e6), numbers("--std", std, 0), channels)


@dataclass(frozen=True)
class TemplateLists:
    """The options of templates as they were typed."""

    listing: Path | None
    pairs: Path | None
    images: Path | None
    norms: bool

    def refuse_contradictions(self) -> None:
        """Refuse one list without the other, and options of templates without any.

        Raises:
            InputError: there are such.
        """
        if (self.listing is None) != (self.pairs is None):
            given, missing = (
                ("--templates", "--template-pairs") if self.listing else ("--template-pairs", "--templates")
            )
            raise InputError(f"{given} needs {missing}, the other of the two lists; add it")
        if self.listing is None and (self.images is not None or self.norms):
            option = "--template-norms" if self.norms else f"--template-images {self.images}"
            raise InputError(f"{option} applies to templates only; add --templates and --template-pairs, or drop it")

    def read(self) -> "TemplateSet | None":
        """Return the templates; None where there are none."""
        if self.listing is None or self.pairs is None:
            return None
        from lossbench.data.templates import read_templates

        return read_templates(self.listing, self.pairs, self.images)


@dataclass(frozen=True)
class Request:
    """The options as they were typed."""

    data: Path | None
    pairs: tuple[Path, ...]
    templates: TemplateLists
    fpr: str | None
    out: Path | None
    flip: bool
    fed: "InputOptions"
    backbone: str | None
    device: str

    def refuse_contradictions(self) -> None:
        """Refuse options that do nothing, or that leave nothing to measure.

        Raises:
            InputError: there are such.
        """
        self.templates.refuse_contradictions()
        if self.flip and not self.pairs and self.templates.listing is None:
            raise InputError("--flip applies to verification pairs and templates only; add --pairs, or drop --flip")
        if self.data is None and not self.pairs and self.templates.listing is None:
            raise InputError(
                "nothing to measure: name unseen people with --data, verification pairs with --pairs, or templates "
                "with --templates and --template-pairs"
            )
        if self.fpr is not None and self.data is None and self.templates.listing is None:
            raise InputError(
                f"--fpr {clipped(self.fpr)} applies to unseen people and templates only; add --data or --templates, or "
                "drop it"
            )
