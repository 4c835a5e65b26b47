"""The names by which sets are told apart, and what a newer lossbench wrote."""

import pytest
from support import encoded_people, training_set

from lossbench.data.set_files import is_packed, refuse_other_schema
from lossbench.errors import InputError


def test_a_packed_set_is_known_by_its_table(tmp_path, orl):
    root = training_set(tmp_path / "set", encoded_people(orl.files[:10], 10), (92, 112))
    assert not is_packed(root)
    assert not is_packed(tmp_path / "nowhere")
    (root / "images.npy").write_bytes(b"")
    assert is_packed(root)


def test_another_schema_is_refused(tmp_path):
    refuse_other_schema(tmp_path, {"schema": 1})
    for content, says in (({"schema": 2}, "2"), ({}, "None"), ({"schema": "a\nb"}, r"a\\nb")):
        with pytest.raises(InputError, match=rf"has schema {says}, this lossbench reads 1; upgrade lossbench\Z"):
            refuse_other_schema(tmp_path / "split.json", content)
