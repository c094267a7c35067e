"""What torch.save wrote, recorded, is read without it; and what is written has the same layout."""

import io
import os
import pickle
import pickletools
import shutil
import types
import zipfile

import damage
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
    path = shutil.copy(RECORDED / name, tmp_path / 'pytorch_model.bin')
    whole = path.read_bytes()
    # The pickles are in front, or nearly; behind them there are numbers, and a list of places.
    versions = [*damage.flipped(whole[:6000], 29), *damage.flipped(whole, 997)]
    versions = [(place, data + whole[len(data) :]) for place, data in versions]
    versions += [*damage.cut(whole, 397)]

    def read():
        with torch_files.opened(str(path)) as (saved, read):
            state = torch_files.state_of(str(path), saved, read)
            return [numbers().shape for name, (_, numbers) in state.items() if 'attn.' not in name]

    found = damage.read_each(path, versions, read)
    assert 100 < len(found) < len(versions) - 200


@pytest.mark.parametrize(
    'state',
    [b'}(X\x05\0\0\0shapeK\x09K\x09\x86u', b'N}X\x05\0\0\0shapeK\x09\x85s\x86', b'](NK\0Ne'],
)
def test_a_tensor_stays_what_it_was_when_it_was_checked(tmp_path, state):
    file = io.BytesIO()
    torch_files.write(file, {'a': torch_files.Saved(0, [2])}, [np.float32([1, 2])])
    with zipfile.ZipFile(file) as archive:
        pickled = archive.read('archive/data.pkl')
    assert pickled.endswith(b'tRu.')
    with zipfile.ZipFile(tmp_path / 'file', 'w') as archive:
        archive.writestr('archive/data.pkl', pickled.replace(b'tRu.', b'tR' + state + b'bu.'))
        archive.writestr('archive/data/0', bytes(8))
    with pytest.raises(ValueError, match='file is damaged'):
        with torch_files.opened(str(tmp_path / 'file')):
            pass


@pytest.mark.parametrize(
    'layout', [(0, [1] * 9, [1] * 9), (0, [2**63], [1]), (0, [1], []), (0, [1.0], [1])]
)
def test_sizes_that_are_none(layout):
    with pytest.raises(ValueError):
        torch_files._rebuild(torch_files.Storage('0', '<f4', 2), *layout)
    fake = types.SimpleNamespace(size=9, item=4, dtype='<f4', key='0')
    with pytest.raises(ValueError, match='of another kind'):
        torch_files._rebuild(fake, 0, [1], [1])


@pytest.mark.parametrize('keys', [7, [], ['other'], [[]]])
def test_numbers_whose_place_is_not_told(tmp_path, keys):
    storage = b'(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0aX\x03\0\0\0cpuK\x02NtQ'
    saved = b'\x80\x02}X\x01\0\0\0xctorch._utils\n_rebuild_tensor_v2\n(' + storage
    saved += b'K\0K\x02\x85K\x01\x85\x89}tRs.'
    parts = [pickle.dumps(part, 2) for part in (torch_files.MAGIC, 1001, {})]
    parts += [saved, pickle.dumps(keys, 2), bytes(8), np.float32([1, 2]).tobytes()]
    path = tmp_path / 'file'
    path.write_bytes(b''.join(parts))
    with pytest.raises(ValueError, match='file is damaged: it should list where|file is cut off'):
        with torch_files.opened(str(path)):
            pass
    path.write_bytes(path.read_bytes().replace(parts[4], pickle.dumps(['a'], 2)))
    with torch_files.opened(str(path)) as (saved, read):
        assert read(saved['x']).tolist() == [1, 2]


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
