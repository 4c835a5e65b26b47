"""A contact sheet of the photos that someone should look at: those left out, with several faces, or not certain."""

import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.prepare.face_choice import LEFT_OUT, LOW, NO_FACE, ODD, SEVERAL, SMALL, TURNED, Choice
from lossbench.utils.lettering import drawable, ending, lettering

SHEET = "doubtful.jpg"
_SIDE, _LINE, _ROW, _MOST = 160, 14, 6, 30  # pixels of a photo and of a line of text; photos in a row and of a kind
_HIGH = 10  # pixels, the size of the text
_USED, _UNUSED, _OTHER = "lime", "red", "orange"


def doubtful_sheet(files: Mapping[str, Path], choices: Mapping[str, Choice]) -> bytes:
    """Return a JPEG of up to 30 photos of each kind of doubt, with names, and the box and the points of the face.

    Args:
        files: photos by name.
        choices: by name; at least one is doubtful.

    Raises:
        InputError: a photo cannot be read.
    """
    kinds = {
        doubt: [name for name, choice in choices.items() if choice.doubt == doubt]
        for doubt in (NO_FACE, SMALL, TURNED, ODD, SEVERAL, LOW)
    }
    cell = _SIDE + 2 * _LINE + 4
    rows = {doubt: -(-min(len(names), _MOST) // _ROW) for doubt, names in kinds.items() if names}
    sheet = Image.new("RGB", (_ROW * (_SIDE + 4), sum(_LINE + 8 + count * cell for count in rows.values())), "white")
    pen, font, top = ImageDraw.Draw(sheet), lettering(_HIGH), 0
    for doubt, count in rows.items():
        names = kinds[doubt]
        some = f", the first {_MOST} of them" if len(names) > _MOST else ""
        pen.text((2, top + 4), f"{doubt}: {len(names)}{some}", fill="black", font=font)
        for i, name in enumerate(names[:_MOST]):
            place = (i % _ROW * (_SIDE + 4), top + _LINE + 8 + i // _ROW * cell)
            sheet.paste(_marked(files[name], choices[name]), place)
            for line, text in enumerate((name, choices[name].remark)):
                own = ending(drawable(text), font, _SIDE)
                pen.text((place[0] + 2, place[1] + _SIDE + line * _LINE), own, fill="black", font=font)
        top += _LINE + 8 + count * cell
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def _marked(file: Path, choice: Choice) -> Image.Image:
    """Return a photo in a square, its face marked."""
    photo = decode(read_bytes(file), file)
    scale = _SIDE / max(photo.size)
    small = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    square = Image.new("RGB", (_SIDE, _SIDE), "gainsboro")
    left, top = (_SIDE - small.width) // 2, (_SIDE - small.height) // 2
    square.paste(small, (left, top))
    if choice.face is not None:
        pen, colour = ImageDraw.Draw(square), _UNUSED if choice.doubt in LEFT_OUT else _USED
        for face, outline in (*((other, _OTHER) for other in choice.others), (choice.face, colour)):
            x, y, width, height = (value * scale for value in face.box)
            pen.rectangle((left + x, top + y, left + x + width, top + y + height), outline=outline, width=2)
        points = [value * scale for value in choice.face.points]
        for x, y in zip(points[::2], points[1::2], strict=True):
            pen.ellipse((left + x - 1, top + y - 1, left + x + 1, top + y + 1), fill=colour)
    return square
