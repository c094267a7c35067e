"""Vocabularies out of texts, read again by ours and by a loop that is written like OpenAI's."""

import collections
import itertools
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from src import encoder
from src.data import text_files
from src.encoding import train_encoder

SHAKESPEARE = ROOT / 'demo' / 'shakespeare.txt'
NASTY = [
    'aaabdaaabac aaab\n\n\n  aaab',
    '大规模语言模型可以微调。\n床前明月光，疑是地上霜。',
    '👩‍👩‍👧‍👦🏳️‍🌈 é e\u0301 ÃĀĠ \x85\u2028\u3000\x00',
    'one<|endoftext|>two <|endoftext|',
    "it's 12 o'clock, I'll |x| go",
]


def made(tmp_path, text, name='out', **options):
    """The Encoder of the files that were made of a text."""
    path = tmp_path / 'text'
    path.write_bytes(text if isinstance(text, bytes) else text.encode('utf-8'))
    config = train_encoder.TrainEncoderConfig(
        texts=[str(path)], out=str(tmp_path / name), **options
    )
    train_encoder.train(config)
    return encoder.get_encoder(name, str(tmp_path))


def openais_ids(directory, text):
    """As OpenAI's encoder.py reads the two files and encodes with them, in fewer lines."""
    tokens = json.loads((directory / 'encoder.json').read_text('ascii'))
    lines = (directory / 'vocab.bpe').read_text('utf-8').split('\n')[1:-1]
    ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
    ids = []
    for word in encoder.Encoder({'x': 0}, []).pat.findall(text):
        parts = [encoder.bytes_to_unicode()[byte] for byte in word.encode('utf-8')]
        while known := [pair for pair in itertools.pairwise(parts) if pair in ranks]:
            best, i = min(known, key=ranks.get), 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = [''.join(best)]
                i += 1
        ids += [tokens[part] for part in parts]
    return ids


def learnt(text, number):
    """The merges of byte pair encoding, by counting everything anew for each of them."""
    alphabet = sorted(encoder.bytes_to_unicode().values())
    numbers = {token: i for i, token in enumerate(alphabet)}
    found = encoder.Encoder({'x': 0}, []).pat.findall(text)
    words = collections.Counter(tuple(encoder.spelled(word)) for word in found)
    merges = []
    while len(merges) < number:
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], numbers[pair[0]], numbers[pair[1]]))
        merges.append(best)
        numbers.setdefault(''.join(best), len(numbers))
        again = collections.Counter()
        for word, count in words.items():
            parts, i = list(word), 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = [''.join(best)]
                i += 1
            again[tuple(parts)] += count
        words = again
    return merges


def test_the_demos_vocabulary_is_made_of_its_text(tmp_path):
    config = train_encoder.TrainEncoderConfig(
        texts=[str(SHAKESPEARE)], out=str(tmp_path), vocab_size=1024
    )
    train_encoder.train(config)
    for name in ('encoder.json', 'vocab.bpe'):
        demo = ROOT / 'models' / 'shakespeare' / name
        assert (tmp_path / name).read_bytes() == demo.read_bytes()


def test_byte_pairs_by_hand(tmp_path):
    # aa is there four times, as aaa has two of them; then all pairs are there once or twice, and
    # of those that are twice the one with the lowest ids is taken: a b before aa a
    enc = made(tmp_path, 'aaabdaaabac', vocab_size=260)
    assert list(enc.bpe_ranks) == [('a', 'a'), ('a', 'b'), ('aa', 'ab')]
    assert list(enc.encoder)[:3] == ['!', '"', '#'] and enc.encoder['ÿ'] == 187
    assert [enc.encoder[t] for t in ('aa', 'ab', 'aaab', '<|endoftext|>')] == [256, 257, 258, 259]


@pytest.mark.parametrize('text', [*NASTY[:3], NASTY[4], SHAKESPEARE.read_text('utf-8')[:3000]])
def test_merges_are_those_of_counting_all_pairs(tmp_path, text):
    enc = made(tmp_path, text, vocab_size=257 + 40)
    assert list(enc.bpe_ranks) == learnt(text, 40)


@pytest.mark.parametrize('text', NASTY)
@pytest.mark.parametrize('options', [{'vocab_size': 300}, {'characters': True}])
def test_openais_loop_gives_the_same_ids(tmp_path, text, options):
    enc = made(tmp_path, text, **options)
    for some in (text, text[::-1], text[1:] + text):
        ids = enc.encode(some)
        assert ids == openais_ids(tmp_path / 'out', some)
        assert enc.encode_to_numpy(some, literal_endoftext=True).tolist() == ids
        assert enc.decode(ids) == enc.decode(enc.encode_to_numpy(some).tolist()) == some


@pytest.mark.parametrize('text', NASTY)
def test_ids_of_characters_are_places_among_them(tmp_path, text):
    enc = made(tmp_path, text, characters=True)
    places = sorted(set(text))
    assert enc.encode(text) == [places.index(character) for character in text]
    assert len(enc.encoder) == len(places) + ('<|endoftext|>' in text)


def test_shakespeares_characters_are_nanogpts(tmp_path, capsys):
    text = SHAKESPEARE.read_text('utf-8')
    enc = made(tmp_path, text, characters=True)
    assert len(enc.encoder) == 65 and enc.special == {}
    assert enc.encode('hii there') == [46, 47, 47, 1, 58, 46, 43, 56, 43]
    split = int(len(text) * 0.9)
    parts = enc.encode_to_numpy(text[:split]), enc.encode_to_numpy(text[split:])
    assert [len(part) for part in parts] == [1_003_854, 111_540]
    assert f'{tmp_path}/out: 65 tokens\n' in capsys.readouterr().err
    with pytest.raises(ValueError, match="no token 'é', which ' café' needs"):
        enc.encode_to_numpy('The café')


@pytest.mark.parametrize('options', [{'vocab_size': 290}, {'characters': True}])
def test_special_tokens_are_behind_all_others_and_not_learnt_from(tmp_path, options):
    text = 'the cat<BOS>the hat<BOS><|endoftext|>naïve 東' * 20
    enc = made(tmp_path, text, special_tokens='<BOS>,naïve 東', **options)
    last = len(enc.encoder)
    assert enc.special == {'<|endoftext|>': last - 3, '<BOS>': last - 2, 'naïve 東': last - 1}
    assert not any(set('<BOS|') & set(first + second) for first, second in enc.bpe_ranks)
    assert enc.decode(enc.encode(text)) == text


@pytest.mark.parametrize('size', [1, 3, 7, 64])
@pytest.mark.parametrize('options', [{'vocab_size': 300}, {'characters': True}])
def test_nothing_depends_on_where_blocks_end(tmp_path, monkeypatch, size, options):
    text = ''.join(NASTY) + '<BOS> ' * 9
    whole = made(tmp_path, text, special_tokens='<BOS>', **options)
    monkeypatch.setattr(text_files, 'BLOCK', size)
    parts = made(tmp_path, text, 'parts', special_tokens='<BOS>', **options)
    assert parts.encoder == whole.encoder and parts.bpe_ranks == whole.bpe_ranks


def test_texts_are_read_as_datasets_are(tmp_path):
    (tmp_path / 'texts' / 'more').mkdir(parents=True)
    for name, text in (('a.txt', 'b\r\na'), ('more/b', 'ö'), ('.hidden', 'x'), ('c.npz', '{')):
        (tmp_path / 'texts' / name).write_bytes(text.encode('latin-1'))
    config = train_encoder.TrainEncoderConfig(
        texts=[str(tmp_path / 'texts'), str(tmp_path / 'texts' / '*.txt')],
        out=str(tmp_path / 'out'), characters=True, encoding='latin-1',
    )  # fmt: skip
    train_encoder.train(config)
    assert list(encoder.get_encoder('out', str(tmp_path)).encoder) == ['Ċ', 'a', 'b', 'Ã¶']


def test_a_text_that_is_too_short_is_said(tmp_path, capsys):
    enc = made(tmp_path, 'ab ab', vocab_size=1000)
    assert list(enc.bpe_ranks) == [('a', 'b'), ('Ġ', 'ab')] and enc.special == {
        '<|endoftext|>': 258
    }
    assert '259 tokens\nThe texts are too short for 1,000\n' in capsys.readouterr().err


def test_another_vocabulary_is_never_overwritten(tmp_path):
    made(tmp_path, 'ab', characters=True)
    made(tmp_path, 'ba', characters=True)  # the same
    before = {path: path.read_bytes() for path in (tmp_path / 'out').iterdir()}
    with pytest.raises(ValueError, match='encoder.json is there, of another vocabulary; give'):
        made(tmp_path, 'abc', characters=True)
    assert {path: path.read_bytes() for path in (tmp_path / 'out').iterdir()} == before
    (tmp_path / 'out' / 'encoder.json').unlink()
    (tmp_path / 'out' / 'vocab.bpe').write_text('mine')
    with pytest.raises(ValueError, match='vocab.bpe is there, of another vocabulary'):
        made(tmp_path, 'ab', characters=True)
    assert os.listdir(tmp_path / 'out') == ['vocab.bpe']


@pytest.mark.parametrize(
    'arguments, complaint',
    [
        (['text'], 'give either --vocab_size or --characters'),
        (['text', '--vocab_size', '300', '--characters'], 'give either --vocab_size or --char'),
        (['text', '--vocab_size', '257', '--special_tokens', '<S>'], 'it must be 258 or more'),
        (['text', '--vocab_size', '1000000000'], '1000000000; it must be 1048576 or less'),
        (['none', '--characters'], 'There is no text at none'),
        (['empty', '--vocab_size', '300'], 'There is no text in empty'),
        (['empty', '--characters'], 'There is no text in empty'),
        (['latin', '--vocab_size', '300'], 'latin: byte 0xf6 at 2 is not utf-8'),
        (['text', '--characters', '--encoding', 'klingon'], "There is no encoding 'klingon'"),
        (['text', '--characters', '--out', 'text'], '--out is text, a file; name a folder'),
    ],
)
def test_mistakes_are_told_in_one_line_and_leave_nothing(tmp_path, arguments, complaint):
    (tmp_path / 'text').write_text('x')
    (tmp_path / 'empty').write_text('')
    (tmp_path / 'latin').write_bytes('Größe'.encode('latin-1'))
    (tmp_path / 'tensorflow.py').write_text('raise SystemExit("TensorFlow was loaded")')
    paths = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get('PYTHONPATH', '')])
    result = subprocess.run(
        [sys.executable, '-m', 'src', 'train_encoder', '--out', 'out', *arguments],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': paths},
    )  # fmt: skip
    assert result.returncode not in (0, None)
    assert complaint in result.stderr.strip().splitlines()[-1]
    assert 'Traceback' not in result.stderr
    assert not (tmp_path / 'out').exists()


def test_no_link_is_written_through(tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'secret').write_text('secret')
    for name in ('encoder.json.new', 'vocab.bpe.new'):
        (tmp_path / 'out' / name).symlink_to(tmp_path / 'secret')
    made(tmp_path, 'ab', characters=True)
    assert (tmp_path / 'secret').read_text() == 'secret'
    assert len(os.listdir(tmp_path / 'out')) == 4
