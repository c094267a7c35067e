"""safetensors, beside the package of that name."""

import json
import shutil
import struct

import damage
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from conftest import GOLDEN
from conversions import odd_ones

from src.converting import safetensors_files

RECORDED = GOLDEN / 'other_programs' / 'huggingface' / 'model.safetensors'


def test_what_transformers_wrote_is_read_as_the_package_reads_it():
    tensors = safetensors_files.tensors_of(str(RECORDED))
    theirs = safetensors.numpy.load_file(RECORDED)
    assert tensors.keys() == theirs.keys()
    assert all(np.array_equal(tensors[name].read(), theirs[name]) for name in theirs)


@pytest.mark.parametrize('dtype', ['float64', 'float32', 'float16', 'bfloat16'])
def test_all_floats_are_widened(tmp_path, dtype):
    numbers = np.float32([[0, -1.5, 3e-5], [1e4, np.inf, np.nan]])
    narrow = numbers.astype(getattr(ml_dtypes, dtype, dtype))
    safetensors.numpy.save_file({'x': narrow}, tmp_path / 'file')
    (tensor,) = safetensors_files.tensors_of(str(tmp_path / 'file')).values()
    assert tensor.read().dtype == np.float32
    np.testing.assert_array_equal(tensor.read(), narrow.astype(np.float32))


def test_what_is_too_large_is_infinite(tmp_path):
    safetensors.numpy.save_file({'x': np.array([1e300, -1e300, 1])}, tmp_path / 'file')
    (tensor,) = safetensors_files.tensors_of(str(tmp_path / 'file')).values()
    assert tensor.read().tolist() == [np.inf, -np.inf, 1]


def test_what_is_written_is_read_by_the_package(tmp_path):
    arrays = {
        'a': np.arange(6, dtype=np.float32).reshape(3, 2).T,
        'é"': np.zeros([], np.float32),
        'empty': np.zeros([0, 3], np.float32),
    }
    with open(tmp_path / 'file', 'wb') as file:
        shapes = {name: array.shape for name, array in arrays.items()}
        safetensors_files.write(file, shapes, iter(arrays.values()))
    theirs = safetensors.numpy.load_file(tmp_path / 'file')
    assert all(np.array_equal(theirs[name], array) for name, array in arrays.items())
    with safetensors.safe_open(tmp_path / 'file', 'np') as opened:
        assert opened.metadata() == {'format': 'pt'}


@pytest.mark.parametrize('size', [0, 7, 8, 100, -1])
def test_a_file_that_is_cut_off(tmp_path, size):
    (tmp_path / 'file').write_bytes(RECORDED.read_bytes()[:size])
    with pytest.raises(ValueError, match='file is (cut off|not a safetensors)') as error:
        safetensors_files.tensors_of(str(tmp_path / 'file'))
    assert '\n' not in str(error.value)


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    path = tmp_path / 'model.safetensors'
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n')
    with pytest.raises(ValueError, match='is a pointer of Git LFS, and no model yet: git lfs pull'):
        safetensors_files.tensors_of(str(path))


def test_every_damaged_bit_of_a_header_is_told_or_harmless(tmp_path):
    whole = safetensors.numpy.save({'ab': np.ones(3, np.float32), 'c': np.ones(2, np.float16)})
    (length,) = struct.unpack('<Q', whole[:8])
    path = tmp_path / 'file'
    for place in range(8 + length):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                for tensor in safetensors_files.tensors_of(str(path)).values():
                    tensor.read()
            except ValueError as error:
                assert str(path) in str(error) and '\n' not in str(error)


@pytest.mark.parametrize(
    'header',
    [
        [],
        {'x': []},
        {'x': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 8]}},
        {'x': {'dtype': 'F32', 'shape': [-1], 'data_offsets': [0, 4]}},
        {'x': {'dtype': 'F32', 'shape': [1.0], 'data_offsets': [0, 4]}},
        {'x': {'dtype': 'F32', 'shape': [2**70], 'data_offsets': [0, 4]}},
        {'x': {'dtype': 'F32', 'shape': [1], 'data_offsets': [-4, 0]}},
        {'x': {'dtype': [], 'shape': [1], 'data_offsets': [0, 4]}},
    ],
)
def test_headers_that_lie(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / 'file').write_bytes(struct.pack('<Q', len(text)) + text + bytes(8))
    with pytest.raises(ValueError, match='file is damaged'):
        safetensors_files.tensors_of(str(tmp_path / 'file'))


def test_damage_and_lies_in_a_whole_file_are_told(tmp_path):
    path = shutil.copy(RECORDED, tmp_path / 'file')
    whole = path.read_bytes()
    (length,) = struct.unpack('<Q', whole[:8])
    described = json.loads(whole[8 : 8 + length])
    texts = [(where, json.dumps(odd).encode()) for where, odd in odd_ones(described, 3)]
    texts += [('nested', b'[' * 100_000), ('a product', b'{"x": {"dtype": "F32", "shape": %s, '
        b'"data_offsets": [0, 4]}}' % str([2**63] * 9999).encode())]  # fmt: skip
    versions = [(w, struct.pack('<Q', len(t)) + t + whole[8 + length :]) for w, t in texts]
    versions += [*damage.flipped(whole, 499), *damage.cut(whole, 397)]
    versions.append(('size', struct.pack('<Q', 2**27) + whole[8:]))

    def read():
        return [tensor.read() for tensor in safetensors_files.tensors_of(str(path)).values()]

    found = damage.read_each(path, versions, read)
    assert 100 < len(found) < len(versions) - 200
