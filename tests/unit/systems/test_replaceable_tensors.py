"""Files of tensors are read as safetensors reads them, checked on the way, and free of the file afterwards."""

import struct
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from underdog.systems.replaceable import tensors

STATE = {
    "weight": torch.randn(70, 33, generator=torch.Generator().manual_seed(0)),
    "half": torch.arange(6).reshape(2, 3).to(torch.bfloat16),
    "gate": torch.tensor(0.25),
    "none": torch.empty(0, 4),
    "ids": torch.arange(5),
}


@pytest.mark.parametrize("piece", [7, 4096, 1 << 18])
def test_what_is_read_is_what_safetensors_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int):
    monkeypatch.setattr(tensors, "PIECE", piece)
    path = tmp_path / "model.safetensors"
    save_file(STATE, path)
    file = tensors.read(path)
    assert file.crc == zlib.crc32(path.read_bytes()) and bytes(file.content) == path.read_bytes()
    found, expected = file.tensors(), load_file(path)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape and torch.equal(found[name], tensor)


def test_tensors_begin_where_matrix_products_like_it_and_outlive_file_and_reader(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": STATE["weight"]}, path)
    weight = tensors.read(path).tensors()["weight"]
    path.write_bytes(b"")
    assert weight.data_ptr() % tensors.ALIGNED == 0
    assert torch.equal(weight, STATE["weight"])
    weight.mul_(2)  # as training does
    assert torch.equal(weight, 2 * STATE["weight"])


@pytest.mark.parametrize(
    "content", [b"", b"abc", struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 8) + b'{"a": 1}']
)
def test_what_is_no_file_of_tensors_is_told(tmp_path: Path, content: bytes):
    (tmp_path / "model.safetensors").write_bytes(content)
    file = tensors.read(tmp_path / "model.safetensors")
    assert bytes(file.content) == content
    with pytest.raises(ValueError):
        file.tensors()
