import subprocess
import sys

import pytest

from lossbench.data.prepare.celeba import IDENTITIES, LANDMARKS, PARTITIONS, read_celeba
from lossbench.errors import InputError


def edit(path, change):
    path.write_text(change(path.read_text()))


def test_reads_photos_and_counts_what_is_absent(celeba_root):
    found = read_celeba(celeba_root)
    assert len(found.photos) == 72
    assert found.absent == ("000073.jpg", "000074.jpg")
    assert "2 of 74 listed images are absent: 000073.jpg, 000074.jpg" in found.notes
    photo = next(p for p in found.photos if p.path.name == "000005.jpg")
    assert photo.person == "00006"
    assert photo.facts == {"partition": "2"}
    assert len(photo.landmarks) == 10
    assert sum(found.per_person().values()) == 72


def test_an_image_without_landmarks_is_left_out_and_counted(celeba_root):
    edit(celeba_root / LANDMARKS, lambda t: "71\n" + "\n".join(t.splitlines()[1:-1]) + "\n")
    found = read_celeba(celeba_root)
    assert len(found.photos) == 71
    assert "1 images have no landmarks and are left out: 000072.jpg" in found.notes


@pytest.mark.parametrize("images", ["Img", "Img/img_align_celeba"])
def test_the_layout_of_the_official_download_is_read_alike(celeba_root, images):
    flat = read_celeba(celeba_root)
    for name, folder in (("img_align_celeba", images), (IDENTITIES, "Anno"), (LANDMARKS, "Anno"), (PARTITIONS, "Eval")):
        (celeba_root / folder).mkdir(parents=True, exist_ok=True)
        (celeba_root / name).rename(celeba_root / folder / name)
    found = read_celeba(celeba_root)
    assert [(p.path.name, p.person, p.landmarks, p.facts) for p in found.photos] == [
        (p.path.name, p.person, p.landmarks, p.facts) for p in flat.photos
    ]
    assert all(p.path.is_file() for p in found.photos)
    assert found.notes == flat.notes


def test_images_that_are_still_packed_are_said_to_be(celeba_root):
    (celeba_root / "Img").mkdir()
    (celeba_root / "img_align_celeba").rename(celeba_root / "away")
    (celeba_root / "Img" / "img_align_celeba.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"Img/img_align_celeba.zip is still packed; unpack it beside itself"):
        read_celeba(celeba_root)


@pytest.mark.parametrize("name", ["img_align_celeba", IDENTITIES, LANDMARKS, PARTITIONS])
def test_a_missing_part_of_the_layout_is_fatal(celeba_root, name):
    (celeba_root / name).rename(celeba_root / "elsewhere")
    with pytest.raises(InputError, match=f"{name} is missing"):
        read_celeba(celeba_root)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            IDENTITIES,
            lambda t: t.replace("000003.jpg 4", "000003.jpg four"),
            "'000003.jpg four' should be",
        ),
        (IDENTITIES, lambda t: t.replace("000003.jpg 4", "000003.jpg"), "line 3"),
        (IDENTITIES, lambda t: t.replace("000003.jpg 4", "000002.jpg 4"), "line 3: '000002.jpg' occurs twice"),
        (IDENTITIES, lambda t: t.replace("000003.jpg 4", "../../3.jpg 4"), "without folders"),
        (PARTITIONS, lambda t: t.replace("000004.jpg 1", "000004.jpg 7"), "line 4: '000004.jpg 7'"),
        (LANDMARKS, lambda t: t.replace("72\n", "75\n", 1), "announces 75 rows and 72 follow"),
        (LANDMARKS, lambda t: t.replace("72\n", "many\n", 1), "line 1: 'many'"),
        (LANDMARKS, lambda t: t.replace("lefteye_x ", "", 1), "line 2 should name ten columns"),
        (LANDMARKS, lambda t: t.replace("000001.jpg ", "000001.jpg nan ", 1), "line 3: .* ten numbers"),
    ],
)
def test_a_malformed_list_is_one_clear_line(celeba_root, name, change, message):
    edit(celeba_root / name, change)
    with pytest.raises(InputError, match=message) as raised:
        read_celeba(celeba_root)
    assert "\n" not in str(raised.value)


def test_bytes_that_are_no_text_are_one_line(celeba_root):
    (celeba_root / IDENTITIES).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not text"):
        read_celeba(celeba_root)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("raise ImportError\n", "--download needs torchvision, which cannot be imported: ImportError"),
        ("def CelebA(*_, **__): raise RuntimeError\n", "--download: CelebA cannot be downloaded (RuntimeError); "),
        ("def CelebA(*_, **__): raise OSError('no\\nnet')\n", "--download: CelebA cannot be downloaded (no); "),
    ],
)
def test_a_download_that_fails_is_one_line_and_leaves_nothing(tmp_path, module, says):
    """A torchvision of our own stands in for one that is broken, or that has no network."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").touch()
    (tmp_path / "torchvision" / "datasets.py").write_text(module)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pathlib import Path\n"
    script += "from lossbench.data.prepare.celeba import download_celeba\n"
    script += f"try:\n    download_celeba(Path({str(tmp_path / 'faces')!r}))\n"
    script += "except ValueError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith(says), done.stdout + done.stderr
    assert done.stdout.count("\n") == 1
    assert not (tmp_path / "faces").exists()
