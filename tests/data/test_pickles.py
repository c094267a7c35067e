"""Pickles that would run something are not read, and harmless ones are."""

import collections
import io
import os
import pickle
import tracemalloc

import pytest

from src.data import pickles


class Call:
    """What runs os.system when it is unpickled."""

    def __reduce__(self):
        return os.system, ('echo run >&2',)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_names_nothing_is_read(protocol):
    value = {'a': [1, 2.5, None, True, 'é', b'\0'], 'b': ({'c': 2**70}, -1)}
    both = io.BytesIO(pickle.dumps(value, protocol) + pickle.dumps(7, protocol))
    if protocol < 3:  # where bytes are made by a call
        value['a'].pop()
        both = io.BytesIO(pickle.dumps(value, protocol) + pickle.dumps(7, protocol))
    assert pickles.load(both, 'x') == value
    assert pickles.load(both, 'x') == 7


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('harmful', [Call(), [{'model': Call()}], print, collections.Counter])
def test_nothing_is_run(protocol, harmful, capfd):
    file = io.BytesIO(pickle.dumps(harmful, protocol))
    known = {'collections.OrderedDict': collections.OrderedDict}
    with pytest.raises(ValueError, match=r'^a.pkl is a pickle that would run \w+\.\w+, and is not'):
        pickles.load(file, 'a.pkl', known)
    assert 'run' not in capfd.readouterr().err


def test_known_names_are_what_they_are_said_to_be():
    written = pickle.dumps(collections.OrderedDict(a=1))
    assert pickles.load(io.BytesIO(written), 'x', {'collections.OrderedDict': dict}) == {'a': 1}


@pytest.mark.parametrize(
    'damaged',
    [
        b'',
        b'PK\3\4',
        pickle.dumps({'a': 1})[:-1],
        b'\x80\x02Nr\xff\xff\xff\x7f.',  # remembers an object under the number 2**31 - 1
        b'\x80\x04\x8c\xff.',
        b'\x80\x02\x8a\xff\xff.',
        b'\x80\x04\x8e' + b'\xff' * 8 + b'.',
        b'\x80\x02\x82\x01.',
        b'(' * 100_000 + b'.',
        b'\x80\x02]' + b'h\x00' * 10 + b'.',
    ],
)
def test_damage_is_told_in_one_line(damaged):
    with pytest.raises(ValueError, match='^a.pkl is ') as error:
        pickles.load(io.BytesIO(damaged), 'a.pkl')
    assert '\n' not in str(error.value)


def test_every_damaged_byte():
    whole = pickle.dumps({'stoi': {'a': 0, 'b': 1}, 'vocab_size': 2}, 2)
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            try:
                pickles.load(io.BytesIO(damaged), 'a.pkl')
            except ValueError as error:
                assert 'a.pkl is ' in str(error)


@pytest.mark.parametrize('told', [b'\x8e' + (2**29).to_bytes(8, 'little'), b'(' + b'N' * 2**16])
def test_whatever_sizes_are_told_no_more_is_read_than_a_pickle_has(tmp_path, monkeypatch, told):
    monkeypatch.setattr(pickles, 'LARGEST', 2**16)
    path = tmp_path / 'a.pkl'
    path.write_bytes(b'\x80\x04' + told)
    with open(path, 'r+b') as file:
        file.truncate(2**30)  # zeros, of which none is written
        file.seek(0)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match='^a.pkl is damaged'):
                pickles.load(file, 'a.pkl')
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()


def test_a_name_gives_a_terminal_no_orders():
    file = io.BytesIO(b'\x80\x02c\x1b[2J\nx\n.')
    with pytest.raises(ValueError, match=r'would run \\x1b\[2J\.x, and'):
        pickles.load(file, 'a.pkl')
