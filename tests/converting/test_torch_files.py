"""What torch.save wrote, recorded, is read without it; and what is written has the same layout."""

import io
import os
import pickle
import pickletools
import zipfile

import numpy as np
import pytest
from conftest import GOLDEN

from src.converting import safetensors_files, torch_files
from src.data import pickles

RECORDED = GOLDEN / 'other_programs'
OF_BOTH_KINDS = ('pytorch_model.bin', 'pytorch_model_2019.bin')


@pytest.mark.parametrize('name', OF_BOTH_KINDS)
def test_it_has_the_same_weights_as_safetensors(name):
    tensors = safetensors_files.tensors_of(str(RECORDED / 'huggingface' / 'model.safetensors'))
    with torch_files.opened(str(RECORDED / name)) as (saved, read):
        for weight, tensor in tensors.items():
            np.testing.assert_array_equal(read(saved[weight]), tensor.read())
        assert np.array_equal(read(saved['lm_head.weight']), read(saved['transformer.wte.weight']))
        buffer = saved['transformer.h.1.attn.bias']
        assert buffer.shape == (1, 1, 16, 16)
        with pytest.raises(ValueError, match='those of GPT-2 are floats'):
            read(buffer)


def test_views_transposes_and_all_floats(tmp_path):
    numbers = np.arange(12, dtype='<f2')
    storage = torch_files.Storage('0', '<f2', 12)
    path = tmp_path / 'file'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('x/data.pkl', pickle.dumps(0))
        archive.writestr('x/data/0', numbers.tobytes())
    with torch_files.opened(str(path)) as (_, read):
        for offset, shape, strides in ((0, (3, 4), (4, 1)), (1, (2, 3), (1, 2)), (4, (), ())):
            expected = np.lib.stride_tricks.as_strided(
                numbers[offset:], shape, [2 * stride for stride in strides]
            )
            tensor = torch_files.Tensor(storage, offset, shape, strides)
            np.testing.assert_array_equal(read(tensor), expected.astype(np.float32))


@pytest.mark.parametrize('layout', [(0, [3], [1]), (2, [1], [1]), (0, [2], [0]), (-1, [1], [1])])
def test_a_tensor_outside_of_its_numbers(layout):
    with pytest.raises(ValueError):
        torch_files._rebuild(torch_files.Storage('0', '<f4', 2), *layout, False, {})


class Call:
    def __reduce__(self):
        return os.system, ('echo run >&2',)


@pytest.mark.parametrize('in_archive', [True, False])
def test_nothing_is_run(tmp_path, in_archive, capfd):
    path = tmp_path / 'pytorch_model.bin'
    if in_archive:
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('archive/data.pkl', pickle.dumps({'wte': Call()}, 2))
    else:
        parts = (torch_files.MAGIC, 1001, {}, {'wte': Call()}, [])
        path.write_bytes(b''.join(pickle.dumps(part, 2) for part in parts))
    with pytest.raises(ValueError, match=f'{path} is a pickle that would run .*system'):
        with torch_files.opened(str(path)):
            pass
    assert 'run' not in capfd.readouterr().err


@pytest.mark.parametrize('name', OF_BOTH_KINDS)
def test_damage_anywhere_is_told_or_harmless(tmp_path, name):
    whole, path = (RECORDED / name).read_bytes(), tmp_path / 'file'
    sizes = list(range(0, len(whole), len(whole) // 23))
    for damaged in [whole[:size] for size in sizes] + [flipped(whole, 7 * size) for size in sizes]:
        path.write_bytes(damaged)
        try:
            with torch_files.opened(str(path)) as (saved, read):
                for _, numbers in torch_files.state_of(str(path), saved, read).values():
                    numbers()
        except ValueError as error:
            assert str(path) in str(error) and '\n' not in str(error)


def flipped(whole, place):
    damaged = bytearray(whole)
    damaged[place % len(whole)] ^= 1 << place % 8
    return bytes(damaged)


@pytest.mark.parametrize('content', [b'', b'PK\3\4', b'no pickle', pickle.dumps([1]), b'GGUF' * 9])
def test_other_files(tmp_path, content):
    (tmp_path / 'file').write_bytes(content)
    with pytest.raises(ValueError, match=f'{tmp_path}/file is '):
        with torch_files.opened(str(tmp_path / 'file')):
            pass


def test_what_is_written_can_be_read():
    arrays = [np.float32([[1, 2], [3, 4], [5, 6]]), np.float32(7)]
    saved = {
        'model': {'a': torch_files.Saved(0, [3, 2]), 'b': torch_files.Saved(1, [])},
        'args': {'n': 2**40, 'x': -1.5, 'none': None, 'yes': True, 'list': [1, ('é', 2)]},
    }
    file = io.BytesIO()
    torch_files.write(file, saved, iter(arrays))
    with zipfile.ZipFile(file) as archive:
        pickled = archive.read('archive/data.pkl')
    pickletools.dis(pickled, io.StringIO())  # checks what is on the stack
    numbers = []
    known = {**torch_files.KNOWN, 'torch._utils._rebuild_tensor_v2': lambda *found: found}
    read = pickles.load(io.BytesIO(pickled), 'x', known, lambda pid: numbers.append(pid) or pid[2])
    assert read['args'] == saved['args']
    assert read['model']['a'][:5] == ('0', 0, (3, 2), (2, 1), False)
    assert numbers[0] == ('storage', '<f4', '0', 'cpu', 6)
