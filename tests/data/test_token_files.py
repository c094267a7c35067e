"""Files of tokens: what is written is read, and what cannot be tokens is told."""

import functools
import io
import os
import shutil
import types
import zipfile

import damage
import numpy as np
import pytest
from conftest import GOLDEN, ROOT

from src import load_dataset
from src.converting import vocabularies
from src.data import dataset_config, pickles, token_files


def lists(chunks):
    return [chunk.tolist() for chunk in chunks]


def test_arrays_of_shepperds_encode_are_read(tmp_path, openais):
    np.savez_compressed(
        tmp_path / 'b.npz', np.array([1, 2, 50256]), np.array([3]), np.array([], int)
    )
    (tmp_path / 'a.txt').write_text('one')
    chunks = load_dataset.load_dataset(openais, str(tmp_path), 0)
    assert lists(chunks) == [[1, 2, 50256], [3], [505]]
    assert {chunk.dtype for chunk in chunks} == {np.dtype(np.uint16)}


@pytest.mark.parametrize(
    'array, complaint',
    [
        (np.array([1.0]), r'tokens.npz: arr_0 is an array \(1,\) of float64'),
        (np.array([[1]]), r'arr_0 is an array \(1, 1\) of int64'),
        (np.array([5, 50257]), 'arr_0 has tokens from 5 to 50257, but the vocabulary goes from 0'),
        (np.array([-50258, 3]), 'arr_0 has tokens from -50258 to 3'),
        (np.array([{}], dtype=object), 'tokens.npz is not an .npz file of tokens'),
    ],
)
def test_arrays_that_are_no_tokens_are_told(tmp_path, openais, array, complaint):
    np.savez(tmp_path / 'tokens.npz', array)
    with pytest.raises(ValueError, match=complaint):
        load_dataset.load_dataset(openais, str(tmp_path / 'tokens.npz'), 0)


def test_tokens_that_are_not_learnt_are_read(tmp_path, openais):
    marked = np.array([~0, ~50256, 50256, 0], np.int32)
    np.savez(tmp_path / 'x.npz', marked, np.array([7], np.int32))
    chunks = load_dataset.load_dataset(openais, str(tmp_path), 0)
    assert lists(chunks) == [marked.tolist(), [7]]
    assert [chunk.dtype for chunk in chunks] == [np.int32, np.uint16]


@pytest.mark.parametrize('content', [b'', b'text', b'PK\x03\x04 cut off'])
def test_an_npz_that_is_none_is_told(tmp_path, small, content):
    (tmp_path / 'x.npz').write_bytes(content)
    with pytest.raises(ValueError, match='x.npz is not an .npz file of tokens'):
        load_dataset.load_dataset(small, str(tmp_path), 0)


def test_a_single_array_is_no_npz(tmp_path, small):
    with open(tmp_path / 'x.npz', 'wb') as file:
        np.save(file, np.array([1]))
    with pytest.raises(ValueError, match='x.npz is not an .npz file of tokens'):
        load_dataset.load_dataset(small, str(tmp_path), 0)


@pytest.fixture
def texts(tmp_path):
    """The path of a folder that becomes three chunks with `combine` 5."""
    (tmp_path / 'texts').mkdir()
    for name, text in {'a': 'one', 'b': '', 'c': 'two three', 'd': 'four' * 1000}.items():
        (tmp_path / 'texts' / name).write_text(text)
    return str(tmp_path / 'texts')


def write(path, enc, *arguments, **options):
    config = dataset_config.DatasetConfig(**options)
    return token_files.write(str(path), load_dataset.encoded(enc, *arguments, config))


@pytest.mark.parametrize('name', ['out.npz', 'out.npy'])
def test_what_is_written_is_read(tmp_path, openais, texts, name):
    expected = load_dataset.load_dataset(openais, texts, 5)
    assert write(tmp_path / name, openais, texts, combine=5) == (sum(map(len, expected)), 3)
    chunks = load_dataset.load_dataset(openais, str(tmp_path / name), 0)
    assert lists(chunks) == lists(expected)
    assert [chunk.dtype for chunk in chunks] == [np.uint16] * 3
    assert sorted(os.listdir(tmp_path)) == [name, 'texts']
    assert write(tmp_path / 'again.npy', openais, str(tmp_path / name))[1] == 3
    assert lists(load_dataset.load_dataset(openais, str(tmp_path / 'again.npy'), 0)) == lists(
        chunks
    )


def test_what_is_written_is_read_by_numpy(tmp_path, openais, texts):
    chunks = lists(load_dataset.load_dataset(openais, texts, 5))
    write(tmp_path / 'out.npz', openais, texts, combine=5)
    with np.load(tmp_path / 'out.npz') as npz:
        assert npz.files == ['arr_0', 'arr_1', 'arr_2']  # as numpy.savez names them
        assert [npz[name].tolist() for name in npz.files] == chunks
    write(tmp_path / 'out.npy', openais, texts, combine=5)
    assert np.load(tmp_path / 'out.npy', mmap_mode='r').tolist() == sum(chunks, [])


@pytest.mark.parametrize('name', ['out.npz', 'out.npy'])
def test_tokens_that_are_not_learnt_are_written(tmp_path, openais, name):
    (tmp_path / 'x.csv').write_text('q,a\none,two\n')
    options = {'template': '{q}{a}', 'loss_on': 'completion'}
    write(tmp_path / name, openais, str(tmp_path / 'x.csv'), **options)
    (chunk,) = load_dataset.load_dataset(openais, str(tmp_path / name), 0)
    prompt, rest = openais.encode('<|startoftext|>one'), openais.encode('two') + [50256]
    assert (chunk.dtype, chunk.tolist()) == (np.int32, [~token for token in prompt] + rest)


def test_an_npy_is_read_where_it_lies(tmp_path, openais):
    np.save(tmp_path / 'x.npy', np.arange(50257, dtype=np.uint16))
    (chunk,) = load_dataset.load_dataset(openais, str(tmp_path / 'x.npy'), 0)
    assert chunk.base is not None and not chunk.flags.writeable
    with open(tmp_path / 'x.npy', 'r+b') as file:  # a change of the file is seen in the chunk
        file.seek(-2, os.SEEK_END)
        file.write(np.uint16(7))
    assert chunk[-2:].tolist() == [50255, 7]
    assert load_dataset.Sampler([chunk], seed=0).sample(50257)[-1] == 7


def test_an_npy_of_many_blocks_is_checked_to_its_end(tmp_path, openais, monkeypatch):
    monkeypatch.setattr(token_files, 'BLOCK', 10)
    tokens = np.arange(95, dtype=np.uint16)
    np.save(tmp_path / 'x.npy', tokens)
    assert lists(load_dataset.load_dataset(openais, str(tmp_path), 0)) == [tokens.tolist()]
    tokens[-1] = 50257
    np.save(tmp_path / 'x.npy', tokens)
    with pytest.raises(ValueError, match='x.npy has tokens from 90 to 50257, but the vocabulary'):
        load_dataset.load_dataset(openais, str(tmp_path), 0)


@pytest.mark.parametrize(
    'arrays, complaint',
    [
        ([np.array([1.0])], r'x.npy is an array \(1,\) of float64'),
        ([np.array([[1]])], r'x.npy is an array \(1, 1\) of int64'),
        ([np.array([{}], dtype=object)], 'x.npy is not an .npy file of tokens'),
        ([np.arange(5), np.array([2, 2])], 'x.npy has 5 tokens, but its chunks have 4'),
    ],
)
def test_an_npy_that_is_none_is_told(tmp_path, small, arrays, complaint):
    with open(tmp_path / 'x.npy', 'wb') as file:
        for array in arrays:
            np.save(file, array)
    with pytest.raises(ValueError, match=complaint):
        load_dataset.load_dataset(small, str(tmp_path), 0)


def test_a_damaged_npy_is_told(tmp_path, small):
    np.save(tmp_path / 'x.npy', np.arange(500))
    whole = (tmp_path / 'x.npy').read_bytes()
    for content in (b'', b'text', whole[:50], whole[:-1], whole + b'text'):
        (tmp_path / 'x.npy').write_bytes(content)
        with pytest.raises(ValueError, match='x.npy is not an .npy file of tokens'):
            load_dataset.load_dataset(small, str(tmp_path), 0)


def test_an_npy_without_tokens_is_told(tmp_path, small):
    np.save(tmp_path / 'x.npy', np.array([], np.uint16))
    with pytest.raises(ValueError, match='There is no text in'):
        load_dataset.load_dataset(small, str(tmp_path), 0)


def test_an_npy_of_two_types_is_refused(tmp_path):
    pieces = [(0, np.array([1], np.uint16)), (1, np.array([~1], np.int32))]
    with pytest.raises(ValueError, match='of two, uint16 and int32. Write an .npz'):
        token_files.write(str(tmp_path / 'x.npy'), pieces)
    assert not os.listdir(tmp_path)
    assert token_files.write(str(tmp_path / 'x.npz'), pieces) == (2, 2)


def fuzzed(tmp_path, enc, name, every=1):
    """Read the file with each bit of it wrong in turn; the chunks of those that can be read."""
    path = tmp_path / name
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), every):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            yield bit, lists(load_dataset.load_dataset(enc, str(path), 0))
        except (ValueError, OSError) as error:
            assert name in str(error) and '\n' not in str(error) and '\x1b' not in str(error)
    path.write_bytes(whole)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('compressed', [False, True])
def test_any_bit_of_an_npz_may_be_wrong(tmp_path, small, compressed):
    save = np.savez_compressed if compressed else np.savez
    chunks = [[1, 2, 3], [1023]]
    save(tmp_path / 'x.npz', *(np.array(chunk, np.uint16) for chunk in chunks))
    found = list(fuzzed(tmp_path, small, 'x.npz'))
    # Dates and names are not checked, and tell nothing; the tokens are, in an archive.
    assert found and all(sorted(each) == sorted(chunks) for _, each in found)


@pytest.mark.filterwarnings('ignore')
def test_any_bit_of_an_npy_may_be_wrong(tmp_path, small):
    pieces = [(0, np.array([1, 2, 3], np.uint16)), (1, np.array([1023], np.uint16))]
    token_files.write(str(tmp_path / 'x.npy'), pieces)
    for _, chunks in fuzzed(tmp_path, small, 'x.npy'):
        tokens = [token for chunk in chunks for token in chunk]
        assert tokens and all(-1024 <= token < 1024 for token in tokens)


@pytest.mark.parametrize(
    'lengths, complaint',
    [
        (np.array([-1, 6]), 'x.npy has chunks of -1 to 6 tokens, and 5 in all'),
        (np.array([2**62, 2**62, 2**62, 2**62, 5]), 'has chunks of 5 to 4611686018427387904 tok'),
        (np.array([2**63, 5], np.uint64), 'has chunks of 5 to 9223372036854775808 tokens'),
        (np.array([], int), 'x.npy has 5 tokens, but its chunks have 0'),
        (
            np.array([5.0]),
            r'has an array \(1,\) of float64 behind its tokens; lengths of chunks are',
        ),
        (np.array([True] * 5), r'has an array \(5,\) of bool behind its tokens'),
        (np.array(['5']), r'has an array \(1,\) of <U1 behind its tokens'),
        (np.array(5), r'has an array \(\) of int64 behind its tokens'),
        (np.array([(5, 1)], dtype='i4,i4'), r'has an array \(1,\) of .* behind its tokens'),
    ],
)
def test_lengths_that_cannot_be_are_told(tmp_path, small, lengths, complaint):
    with open(tmp_path / 'x.npy', 'wb') as file:
        np.save(file, np.arange(5))
        np.save(file, lengths)
    with pytest.raises(ValueError, match=complaint):
        load_dataset.load_dataset(small, str(tmp_path), 0)


@pytest.mark.parametrize('array', [np.array(1), np.array([(1, 2)], 'i4,i4'), np.array(['1'])])
@pytest.mark.parametrize('name', ['x.npy', 'x.npz'])
def test_other_arrays_are_told(tmp_path, small, array, name):
    (np.save if name == 'x.npy' else np.savez)(tmp_path / name, array)
    with pytest.raises(ValueError, match=r'tokens are whole numbers in a row'):
        load_dataset.load_dataset(small, str(tmp_path), 0)


def test_a_header_that_promises_too_much_is_told(tmp_path, small):
    for length in (10**9, 10**15, 10**30, -3):
        with open(tmp_path / 'x.npy', 'wb') as file:
            header = {'descr': '<u2', 'fortran_order': False, 'shape': (length,)}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(b'1234')
        with zipfile.ZipFile(tmp_path / 'y.npz', 'w') as archive:
            archive.write(tmp_path / 'x.npy', 'arr_0.npy')
        for name in ('x.npy', 'y.npz'):
            with pytest.raises(ValueError, match=f'{name} is not an .np. file of tokens'):
                load_dataset.load_dataset(small, str(tmp_path / name), 0)


def test_a_zip_of_texts_is_no_npz(tmp_path, small):
    with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
        archive.writestr('a\x1b[2J.txt', 'text')
    told = r'x.npz is not an .npz file of tokens: a\\x1b\[2J.txt is no array'
    with pytest.raises(ValueError, match=told):
        load_dataset.load_dataset(small, str(tmp_path), 0)


def test_a_damaged_input_is_not_blamed_on_the_output(tmp_path, small):
    config = dataset_config.DatasetConfig()
    with pytest.raises(OSError, match="Input/output error: '/proc/self/mem'"):
        pieces = load_dataset.encoded(small, '/proc/self/mem', config)
        token_files.write(str(tmp_path / 'out.npz'), pieces)
    assert not os.listdir(tmp_path)


NANOGPTS = GOLDEN / 'other_programs' / 'nanogpt'


@pytest.fixture
def characters():
    """The encoder with the vocabulary that nanoGPT made."""
    return vocabularies.of_meta(str(NANOGPTS / 'meta.pkl'))


def test_a_bin_of_nanogpt_is_read(characters):
    (chunk,) = load_dataset.load_dataset(characters, str(NANOGPTS / 'val.bin'), 0)
    shakespeare = (ROOT / 'demo' / 'shakespeare.txt').read_text()[:3000]
    assert chunk.dtype == np.uint16 and len(chunk) == 302  # the last tenth
    assert characters.decode(chunk.tolist()) == shakespeare[-302:]


def test_a_bin_is_checked(tmp_path, openais, characters, small):
    np.array([5, 50257], np.uint16).tofile(tmp_path / 'x.bin')
    with pytest.raises(ValueError, match='x.bin has tokens from 5 to 50257, but the vocabulary'):
        load_dataset.load_dataset(openais, str(tmp_path / 'x.bin'), 0)
    (tmp_path / 'x.bin').write_bytes(b'odd')
    with pytest.raises(ValueError, match='x.bin is not a .bin of tokens: 3 bytes are no numbers'):
        load_dataset.load_dataset(openais, str(tmp_path / 'x.bin'), 0)
    (tmp_path / 'x.bin').write_bytes(b'')
    with pytest.raises(ValueError, match='There is no text in .*x.bin'):
        load_dataset.load_dataset(openais, str(tmp_path / 'x.bin'), 0)
    with pytest.raises(ValueError, match="meta.pkl is of another vocabulary .*: '.*' is 0 there"):
        load_dataset.load_dataset(openais, str(NANOGPTS / 'val.bin'), 0)


def test_a_bin_is_written_as_nanogpt_has_it(tmp_path, characters):
    written = token_files.write(
        str(tmp_path / 'x.bin'), [(0, np.array([7, 8], np.uint8)), (1, np.array([65535]))]
    )
    assert written == (3, 1)
    assert np.fromfile(tmp_path / 'x.bin', np.uint16).tolist() == [7, 8, 65535]
    theirs = pickles.load(io.BytesIO((NANOGPTS / 'meta.pkl').read_bytes()), 'theirs')
    assert pickles.load(io.BytesIO(token_files.meta_of(characters)), 'ours') == theirs


@pytest.mark.parametrize('number', [~5, 65536])
def test_what_a_bin_cannot_hold_is_told(tmp_path, number):
    with pytest.raises(ValueError, match='A .bin has ids of 16 bits, up to 65535, and these go'):
        token_files.write(str(tmp_path / 'x.bin'), [(0, np.array([number], np.int32))])
    assert list(tmp_path.iterdir()) == []


def test_damage_of_a_bin_is_told_or_gives_other_tokens(tmp_path, characters):
    for name in ('val.bin', 'meta.pkl'):
        shutil.copy(GOLDEN / 'other_programs' / 'nanogpt' / name, tmp_path)
    path = tmp_path / 'val.bin'
    whole = path.read_bytes()
    progress = types.SimpleNamespace(update=lambda count: None)
    versions = [*damage.flipped(whole, 3), *damage.cut(whole)]
    read = functools.partial(token_files.read, str(path), characters, progress)
    found = damage.read_each(path, versions, lambda: [*read()])
    assert 100 < len(found) < len(versions) - 100
    tokens = np.concatenate([chunk for _, chunks in found for chunk in chunks])
    assert tokens.max() <= max(characters.decoder)
