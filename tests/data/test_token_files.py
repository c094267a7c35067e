"""Files of tokens: what is written is read, and what cannot be tokens is told."""

import os

import numpy as np
import pytest

from src import load_dataset
from src.data import dataset_config, token_files


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
