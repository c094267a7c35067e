"""Pieces together are the text; none ends inside of a character or of what ends the text."""

import numpy as np
import pytest

from src.serving import pieces

RANDOM = np.random.default_rng(1)
NASTY = ['a👩‍👩‍👧b', '从前有一座', 'é\u0301 <|endoftext|>', 'plain\n\n text', '\ufffd\u0000x']


def grown(enc, tokens, stops=(), number=None):
    """(pieces, whether it stopped)."""
    text, out = pieces.Pieces(enc, stops, offset=5), []
    for i, token in enumerate(tokens):
        logs = np.log(RANDOM.dirichlet(np.ones(len(enc.decoder))))
        out.append(text.add(token, logs, number, last=i + 1 == len(tokens)))
        if text.stopped:
            break
    return out, text.stopped


def of_bytes(enc, text):
    """A text in the smallest tokens, which cut its characters."""
    return [enc.encoder[enc.byte_encoder[byte]] for byte in text.encode()]


@pytest.mark.parametrize('text', NASTY)
def test_texts_in_bytes(openais, text):
    tokens = of_bytes(openais, text)
    for count in range(1, len(tokens) + 1):  # the last may be half a character
        out, _ = grown(openais, tokens[:count])
        assert ''.join(piece.text for piece in out) == openais.decode(tokens[:count])
        assert all('\ufffd' not in piece.text for piece in out[:-1]) or '\ufffd' in text


def test_any_tokens(openais):
    for _ in range(60):
        tokens = RANDOM.integers(0, 50257, RANDOM.integers(1, 30)).tolist()
        out, _ = grown(openais, tokens, number=0)
        assert ''.join(piece.text for piece in out) == openais.decode(tokens)
        entries = [entry for piece in out for entry in piece.entries]
        assert [entry.text for entry in entries] == [pieces.name_of(openais, t) for t in tokens]


@pytest.mark.parametrize('text', NASTY)
def test_a_text_ends_before_each_part_of_it(openais, text):
    tokens = of_bytes(openais, text)
    for begin in range(len(text)):
        for end in range(begin + 1, len(text) + 1):
            stop = text[begin:end]
            out, stopped = grown(openais, tokens, (stop, 'not there'), number=1)
            shown = ''.join(piece.text for piece in out)
            assert stopped and shown == text[: text.find(stop)]
            for entry in (entry for piece in out for entry in piece.entries):
                assert entry.offset < 5 + len(shown)


def test_what_may_be_the_beginning_of_the_end_is_held_back(openais):
    tokens = openais.encode('one two one three')
    out, stopped = grown(openais, tokens, (' one two', 'three!'))
    assert [piece.text for piece in out] == ['one', ' two', '', ' one three'] and not stopped


def test_entries_come_with_the_text_that_they_begin(openais):
    tokens = [*of_bytes(openais, '👧'), *openais.encode(' b')]
    out, _ = grown(openais, tokens, number=2)
    assert [len(piece.entries) for piece in out] == [0, 0, 0, 4, 1]
    assert [entry.text for entry in out[3].entries] == [
        'bytes:\\xf0', 'bytes:\\x9f', 'bytes:\\x91', 'bytes:\\xa7',
    ]  # fmt: skip
    assert [entry.offset for entry in out[3].entries] == [5] * 4
    assert out[4].entries[0].offset == 6
    for entry in out[3].entries:
        assert 2 <= len(entry.top) <= 3 and entry.top[entry.text] == entry.logprob


def test_what_ends_a_text_is_told_with_the_rest_of_it(openais):
    logs = np.log(RANDOM.dirichlet(np.ones(50257)))
    text = pieces.Pieces(openais, ('aX',), offset=2)
    assert text.add(openais.encode('a')[0], logs, 0).text == ''  # held back
    piece = text.rest(50256, logs, 1)
    assert piece.text == 'a' and [each.text for each in piece.entries] == ['a', '<|endoftext|>']
    assert [each.offset for each in piece.entries] == [2, 3]
    assert piece.entries[1].logprob == logs[50256]


def test_bytes_that_are_no_text_are_named_by_their_numbers(openais):
    for token in RANDOM.integers(0, 50256, 500).tolist():
        name = pieces.name_of(openais, token)
        data = bytes(openais.byte_decoder[c] for c in openais.decoder[token])
        if name.startswith('bytes:'):
            assert bytes.fromhex(name[6:].replace('\\x', '')) == data
        else:
            assert name.encode() == data
