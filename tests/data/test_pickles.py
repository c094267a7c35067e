"""Pickles that would run something are not read, and harmless ones are."""

import collections
import io
import os
import pickle

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
