"""A network that was handed in as weights alone is the one that lies in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from archsearch.data import Dataset
from archsearch.pretrained import make_ready, of_upload
from archsearch.pretrained.stored import in_folder
from archsearch.request import TeacherNetwork, UploadedTeacher
from archsearch.teachers import Teacher, describe_folder


def test_weights_with_a_description_are_the_network_of_the_folder(
    networks: Path, teacher: Teacher, few_digits: Dataset, tmp_path: Path
) -> None:
    folder, kept = networks / "knows", tmp_path / "content"
    kept.write_bytes((folder / "model.safetensors").read_bytes())
    source = UploadedTeacher.model_validate({"upload": "up_0123456789", **describe_folder(folder)})
    uploaded = of_upload(TeacherNetwork(id="tch_0123456789"), source, kept)
    shelf = make_ready([uploaded, in_folder(networks)[0]], teacher, few_digits)
    assert [member.stored.label for member in shelf.members] == ["folder:knows", "tch_0123456789"]
    one, other = (member.facts for member in shelf.members)
    assert replace(one, licence=None) == other, "which nobody described"
    assert shelf.look({"network": 0}).nats == shelf.look({"network": 1}).nats
