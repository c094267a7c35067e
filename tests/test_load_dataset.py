import codecs
import collections
import json
import os
import tracemalloc

import numpy as np
import pytest

from src import encoder, load_dataset

MARK = 50256


def write(directory, **texts):
    directory.mkdir(exist_ok=True)
    for name, text in texts.items():
        (directory / f'{name}.txt').write_text(text, encoding='utf-8')
    return str(directory)


def lists(chunks):
    return [chunk.tolist() for chunk in chunks]


def test_chunks_are_shepperds_when_the_mark_is_literal(tmp_path, openais, golden):
    recorded = golden('golden_chunks.json')
    assert len(recorded['cases']) == 3
    for number, case in enumerate(recorded['cases']):
        for name in case['files']:
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(recorded['files'][name], encoding='utf-8', newline='')
        chunks = load_dataset.load_dataset(
            openais, str(tmp_path / str(number)), case['combine'], literal_endoftext=True
        )
        assert lists(chunks) == case['chunks']


def test_texts_are_joined_with_the_mark_until_they_are_long_enough(tmp_path, openais):
    path = write(tmp_path, a='one', b='two', c='three', d='four')
    one, two, three, four = map(openais.encode, ('one', 'two', 'three', 'four'))

    def load(combine):
        return lists(load_dataset.load_dataset(openais, path, combine))

    mark = [MARK]
    assert load(0) == [one, two, three, four]
    # 3 + 13 + 3 characters are fewer than 20, with 13 + 5 more they are enough
    assert load(20) == [one + mark + two + mark + three, four + mark]
    assert load(50000) == [one + mark + two + mark + three + mark + four + mark]


def test_the_mark_inside_a_text_is_one_token_too(tmp_path, openais):
    path = write(tmp_path, a='one<|endoftext|>two')
    assert lists(load_dataset.load_dataset(openais, path, 0)) == [[505, MARK, 11545]]


def test_nothing_joins_texts_whose_characters_are_not_those_of_the_mark(tmp_path):
    path = write(tmp_path, a='one', b='eno')
    letters = encoder.Encoder({'e': 0, 'n': 1, 'o': 2}, [])
    assert lists(load_dataset.load_dataset(letters, path, 50000)) == [[2, 1, 0, 0, 1, 2]]
    with_mark = letters.with_special_tokens('<|endoftext|>')
    (chunk,) = load_dataset.load_dataset(with_mark, path, 50000)
    assert chunk.tolist() == [2, 1, 0, 3, 0, 1, 2, 3]


def test_files_are_found_in_the_order_of_their_names(tmp_path):
    for name in ('b.txt', 'a/z.txt', 'a/c/d', '.hidden/x.txt', 'a/.hidden', 'B.txt'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('x')
    files = load_dataset.files_of(str(tmp_path))
    assert [os.path.relpath(f, tmp_path) for f in files] == ['B.txt', 'a/c/d', 'a/z.txt', 'b.txt']
    assert load_dataset.files_of(str(tmp_path / '*.txt')) == [
        str(tmp_path / 'B.txt'),
        str(tmp_path / 'b.txt'),
    ]
    assert load_dataset.files_of(str(tmp_path / '**' / 'd')) == [str(tmp_path / 'a' / 'c' / 'd')]
    assert load_dataset.files_of(str(tmp_path / 'a' / '.hidden')) == [str(tmp_path / 'a/.hidden')]


@pytest.mark.parametrize('name', ['none', 'none/*.txt', 'empty', ''])
def test_nothing_to_read_is_said(tmp_path, small, name):
    (tmp_path / 'empty').mkdir()
    path = name and str(tmp_path / name)
    with pytest.raises(ValueError, match='There is no text at'):
        load_dataset.load_dataset(small, path, 50000)


def test_files_without_text_are_said(tmp_path, small):
    path = write(tmp_path / 'texts', a='', b='')
    with pytest.raises(ValueError, match='There is no text in .*texts'):
        load_dataset.load_dataset(small, path, 50000)
    with pytest.raises(ValueError, match='There is no text in'):
        load_dataset.load_dataset(small, path, 0)


NASTY = [
    'To be, or not to be: that is the question.\r\n\r\nWhether  \t tis nobler\n',
    '東京は日本の首都です。今日はいい天気ですね。' * 3,
    '👩‍👩‍👧‍👦🏳️‍🌈' * 9,
    "a1b22c333 it's I'll 12's ''' |x| a|b|<|endoftext|>|<|endoftext|<|endoftext|>> x<|endoftext|>",
    'x' * 50 + ' ' * 50 + '=' * 50 + '\n' * 30,
    '\x1c\x1d \x85\xa0\u2028\u3000 a\u0301b\u200dc',
]


@pytest.mark.parametrize('size', [1, 2, 3, 5, 7, 16, 61, 10**6])
@pytest.mark.parametrize('literal', [False, True])
def test_tokens_do_not_depend_on_where_blocks_end(tmp_path, openais, monkeypatch, size, literal):
    monkeypatch.setattr(load_dataset, 'BLOCK', size)
    text = ''.join(NASTY)
    (tmp_path / 'text').write_bytes(text.encode('utf-8'))
    (chunk,) = load_dataset.load_dataset(
        openais, str(tmp_path / 'text'), 0, literal_endoftext=literal
    )
    text = text.replace('\r\n', '\n')
    assert chunk.tolist() == openais.encode_to_numpy(text, literal_endoftext=literal).tolist()


SPECIAL = '<BOS>,[SEP] x,<BOS>2,a b,1 2 3 4,|x'


@pytest.mark.parametrize('size', [1, 2, 3, 5, 7, 16, 10**6])
def test_a_special_token_is_never_cut_in_two(tmp_path, openais, monkeypatch, size):
    monkeypatch.setattr(load_dataset, 'BLOCK', size)
    enc = openais.with_special_tokens(SPECIAL)
    text = '<BOS>one<BOS> 2 <BOS>2[SEP] x [SEP] y aa bb a bc 1 2 3 1 2 3 4 5 ||x|x <BO S><BOS' * 3
    (tmp_path / 'text').write_text(text)
    (chunk,) = load_dataset.load_dataset(enc, str(tmp_path / 'text'), 0)
    assert chunk.tolist() == enc.encode(text)
    assert len(list(load_dataset.blocks(iter(text), enc.special))) > 30


def test_texts_are_cut_into_blocks_at_all():
    for text in NASTY[:4]:
        parts = list(load_dataset.blocks(iter(text)))
        assert ''.join(parts) == text
        assert len(parts) > 3 or '👩' in text


def test_a_large_file_needs_little_memory(tmp_path, small):
    line = 'All the world is a stage, and all the men and women merely players.\n'
    (tmp_path / 'large').write_text(line * 300_000)  # 20 MB
    small.encode_to_numpy('')
    tracemalloc.start()
    pieces = load_dataset.encoded(small, str(tmp_path / 'large'), 50000)
    total = sum(len(tokens) for _, tokens in pieces)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 300_000 * len(small.encode(line))
    assert peak < 8 * load_dataset.BLOCK


@pytest.mark.parametrize(
    'encoding, text, suggested',
    [
        ('utf-16', 'Zwölf Boxkämpfer jagen Viktor.\n' * 9, 'utf_16'),
        ('gb18030', '床前明月光，疑是地上霜。举头望明月，低头思故乡。\n' * 9, 'gb18030'),
        ('cp1251', 'Съешь же ещё этих мягких французских булок, да выпей чаю.\n' * 9, 'cp1251'),
    ],
)
def test_another_encoding_is_noticed_and_named(tmp_path, openais, encoding, text, suggested):
    path = tmp_path / 'text'
    path.write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=f'text: byte .* may be --encoding {suggested}'):
        load_dataset.load_dataset(openais, str(path), 0)
    (chunk,) = load_dataset.load_dataset(openais, str(path), 0, encoding)
    assert openais.decode(chunk.tolist()) == text


@pytest.mark.parametrize('at', [0, 100, 2**20 - 1, 2**20, 3 * 2**20])
def test_the_offset_of_a_wrong_byte_is_told(tmp_path, small, at):
    path = tmp_path / 'text'
    path.write_bytes('ö'.encode() * (at // 2) + b'x' * (at % 2) + b'\xff more')
    with pytest.raises(ValueError, match=f'byte 0xff at {at} is not utf-8'):
        load_dataset.load_dataset(small, str(path), 0)


def test_a_file_that_ends_inside_a_character_is_told(tmp_path, small):
    (tmp_path / 'text').write_bytes(b'abc' + '中'.encode()[:2])
    with pytest.raises(ValueError, match='byte 0xe4 at 3 is not utf-8'):
        load_dataset.load_dataset(small, str(tmp_path / 'text'), 0)


def test_a_file_that_is_no_text_is_told(tmp_path, small):
    (tmp_path / 'picture').write_bytes(b'\x89PNG\r\n\x1a\n' + bytes(range(256)) * 30)
    with pytest.raises(ValueError, match='byte 0x89 at 0 is not utf-8'):
        load_dataset.load_dataset(small, str(tmp_path / 'picture'), 0)


@pytest.mark.parametrize('encoding', ['klingon', 'hex', ''])
def test_an_encoding_that_is_none_is_told(tmp_path, small, encoding):
    with pytest.raises(ValueError, match='There is no encoding'):
        load_dataset.load_dataset(small, write(tmp_path, a='x'), 0, encoding)


def test_a_byte_order_mark_goes_with_utf_8_sig(tmp_path, openais):
    (tmp_path / 'text').write_bytes(codecs.BOM_UTF8 + b'one')
    chunks = load_dataset.load_dataset(openais, str(tmp_path / 'text'), 0, 'utf-8-sig')
    assert lists(chunks) == [[505]]


def test_arrays_of_shepperds_encode_are_read(tmp_path, openais):
    np.savez_compressed(
        tmp_path / 'b.npz', np.array([1, 2, 50256]), np.array([3]), np.array([], int)
    )
    write(tmp_path, a='one')
    chunks = load_dataset.load_dataset(openais, str(tmp_path), 0)
    assert lists(chunks) == [[1, 2, 50256], [3], [505]]
    assert {chunk.dtype for chunk in chunks} == {np.dtype(np.uint16)}


@pytest.mark.parametrize(
    'array, complaint',
    [
        (np.array([1.0]), r'tokens.npz: arr_0 is an array \(1,\) of float64'),
        (np.array([[1]]), r'arr_0 is an array \(1, 1\) of int64'),
        (np.array([5, 50257]), 'arr_0 has tokens from 5 to 50257, but the vocabulary goes from 0'),
        (np.array([50258]), 'or give the --special_tokens of encode.py'),
        (np.array([-1]), 'arr_0 has tokens from -1 to -1'),
        (np.array([{}], dtype=object), 'tokens.npz is not an .npz file of tokens'),
    ],
)
def test_arrays_that_are_no_tokens_are_told(tmp_path, openais, array, complaint):
    np.savez(tmp_path / 'tokens.npz', array)
    with pytest.raises(ValueError, match=complaint):
        load_dataset.load_dataset(openais, str(tmp_path / 'tokens.npz'), 0)


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
    texts = write(tmp_path / 'texts', a='one', b='', c='two three', d='four' * 1000)
    pieces = load_dataset.encoded(openais, texts, 5)
    assert load_dataset.write_npz(str(tmp_path / 'out.npz'), pieces) == (
        sum(map(len, load_dataset.load_dataset(openais, texts, 5))),
        3,
    )
    with np.load(tmp_path / 'out.npz') as npz:
        assert npz.files == ['arr_0', 'arr_1', 'arr_2']  # as numpy.savez names them
    chunks = load_dataset.load_dataset(openais, str(tmp_path / 'out.npz'), 0)
    assert lists(chunks) == lists(load_dataset.load_dataset(openais, texts, 5))
    assert sorted(os.listdir(tmp_path)) == ['out.npz', 'texts']


def test_every_window_inside_a_chunk_is_equally_likely():
    chunks = [np.arange(10), np.arange(100, 103), np.arange(200, 204), np.arange(300, 301)]
    sampler = load_dataset.Sampler(chunks, seed=0)
    assert (sampler.total_size, sampler.longest) == (18, 10)
    counts = collections.Counter(tuple(sampler.sample(4).tolist()) for _ in range(16000))
    windows = [tuple(range(i, i + 4)) for i in range(7)] + [(200, 201, 202, 203)]
    assert set(counts) == set(windows)
    expected = 16000 / len(windows)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 24.3  # 7 degrees of freedom: exceeded once in a thousand seeds


def test_a_window_may_be_the_whole_text():
    assert load_dataset.Sampler([np.arange(5)]).sample(5).tolist() == [0, 1, 2, 3, 4]


def test_a_window_longer_than_any_text_is_told():
    sampler = load_dataset.Sampler([np.arange(5), np.arange(3)])
    with pytest.raises(ValueError, match='No text is as long as a window of 6 .* longest has 5'):
        sampler.sample(6)


def test_a_sampler_goes_on_where_it_was():
    sampler = load_dataset.Sampler([np.arange(1000)], seed=3)
    sampler.sample(5)
    state = json.loads(json.dumps(sampler.state()))
    then = [sampler.sample(5).tolist() for _ in range(20)]
    other = load_dataset.Sampler([np.arange(1000)])
    other.restore(state)
    assert [other.sample(5).tolist() for _ in range(20)] == then


def test_a_seed_decides():
    def first(seed):
        return load_dataset.Sampler([np.arange(10**6)], seed=seed).sample(3).tolist()

    assert first(1) == first(1) != first(2)
    assert first([1, 2]) == first([1, 2]) != first([1, 3])
    assert first(None) != first(None)
