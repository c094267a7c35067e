"""Files of tokens: what is written is read, and what cannot be tokens is told."""

import os

import numpy as np
import pytest

from src import dataset_config, load_dataset, token_files


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


def test_what_is_written_is_read(tmp_path, openais):
    (tmp_path / 'texts').mkdir()
    for name, text in {'a': 'one', 'b': '', 'c': 'two three', 'd': 'four' * 1000}.items():
        (tmp_path / 'texts' / name).write_text(text)
    texts = str(tmp_path / 'texts')
    pieces = load_dataset.encoded(openais, texts, dataset_config.DatasetConfig(combine=5))
    assert token_files.write_npz(str(tmp_path / 'out.npz'), pieces) == (
        sum(map(len, load_dataset.load_dataset(openais, texts, 5))),
        3,
    )
    with np.load(tmp_path / 'out.npz') as npz:
        assert npz.files == ['arr_0', 'arr_1', 'arr_2']  # as numpy.savez names them
    chunks = load_dataset.load_dataset(openais, str(tmp_path / 'out.npz'), 0)
    assert lists(chunks) == lists(load_dataset.load_dataset(openais, texts, 5))
    assert sorted(os.listdir(tmp_path)) == ['out.npz', 'texts']
