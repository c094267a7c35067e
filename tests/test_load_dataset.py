import collections
import csv
import gzip
import io
import json
import tracemalloc
import zipfile

import damage
import numpy as np
import pytest

from src import encoder, load_dataset
from src.data import dataset_config, text_files

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
            # Shepperd reads a byte order mark as text; here the first is none, but a second is.
            text = recorded['files'][name].replace('\ufeff', '\ufeff\ufeff')
            path.write_text(text, encoding='utf-8', newline='')
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
    monkeypatch.setattr(text_files, 'BLOCK', size)
    text = ''.join(NASTY)
    (tmp_path / 'text').write_bytes(text.encode('utf-8'))
    (chunk,) = load_dataset.load_dataset(
        openais, str(tmp_path / 'text'), 0, literal_endoftext=literal
    )
    text = text.replace('\r\n', '\n')
    assert chunk.tolist() == openais.encode_to_numpy(text, literal_endoftext=literal).tolist()


def table(directory, *texts, name='table.csv', header='text'):
    with open(directory / name, 'w', encoding='utf-8', newline='') as file:
        csv.writer(file).writerows([[header], *([text] for text in texts)])
    return str(directory / name)


@pytest.mark.parametrize('size', [1, 7, 61, 10**6])
@pytest.mark.parametrize(
    'start, end', [('<|startoftext|>', '<|endoftext|>'), ('', ''), ('a', 'b ')]
)
@pytest.mark.parametrize('literal', [False, True])
def test_each_row_is_encoded_by_itself(tmp_path, openais, monkeypatch, size, start, end, literal):
    monkeypatch.setattr(text_files, 'BLOCK', size)
    texts = [*NASTY, *'abc', ' d', 'ef']  # 'a' and 'b' would be one token if they were joined
    options = {'start_token': start, 'end_token': end, 'literal_endoftext': literal}
    chunks = load_dataset.load_dataset(openais, table(tmp_path, *texts), 0, **options)
    rows = [start + text.replace('\r\n', '\n') + end for text in texts]
    assert lists(chunks) == [
        [i for row in rows for i in openais.encode_to_numpy(row, literal_endoftext=literal)]
    ]


def test_lines_are_encoded_as_rows_are(tmp_path, openais):
    texts = [' one', 'two', '三']
    (tmp_path / 'a.txt').write_bytes(' one\r\n\r\ntwo\n三'.encode())
    (tmp_path / 'b').mkdir()
    lines = load_dataset.load_dataset(openais, str(tmp_path / 'a.txt'), 0, line_by_line=True)
    rows = load_dataset.load_dataset(openais, table(tmp_path / 'b', *texts), 0)
    assert lists(lines) == lists(rows)
    assert openais.decode(lines[0].tolist()) == ''.join(
        f'<|startoftext|>{text}<|endoftext|>' for text in texts
    )


def test_tables_are_joined_with_nothing_behind_them(tmp_path, openais):
    write(tmp_path, b='one', d='two')
    for name in ('a.csv', 'c.csv', 'e.csv'):
        table(tmp_path, 'x', 'y', name=name)
    rows = [*openais.encode('[x]'), *openais.encode('[y]')]
    one, two, mark = openais.encode('one'), openais.encode('two'), [MARK]

    def load(combine):
        options = {'start_token': '[', 'end_token': ']'}
        return lists(load_dataset.load_dataset(openais, str(tmp_path), combine, **options))

    assert load(0) == [rows, one, rows, two, rows]
    # 6 + 3 + 13 characters are enough, and so are 6 + 3 + 13 more
    assert load(22) == [rows + one + mark + rows, two + mark + rows]
    assert load(50000) == [rows + one + mark + rows + two + mark + rows]


def test_what_is_before_the_completion_is_not_learnt(tmp_path, openais):
    (tmp_path / 'x.jsonl').write_text(
        '{"q": "one", "a": " two"}\n{"q": "", "a": "东京"}\n', 'utf-8'
    )
    options = {'start_token': '', 'template': '{q}:{a}!', 'loss_on': 'completion'}
    (chunk,) = load_dataset.load_dataset(openais, str(tmp_path), 0, **options)
    assert chunk.dtype == np.int32
    prompts = [openais.encode('one:'), openais.encode(':')]
    rests = [openais.encode(' two!') + [MARK], openais.encode('东京!') + [MARK]]
    expected = []
    for prompt, rest in zip(prompts, rests, strict=True):
        expected += [~token for token in prompt] + rest
    assert chunk.tolist() == expected
    sampler = load_dataset.Sampler([chunk], seed=0)
    assert sampler.sample(len(expected)).tolist() == expected


def test_a_table_is_found_in_an_archive(tmp_path, openais):
    path = table(tmp_path, '东京', 'two\nlines')
    expected = lists(load_dataset.load_dataset(openais, path, 0))
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
        archive.write(path, 'table.csv')
    (tmp_path / 'x.CSV.gz').write_bytes(gzip.compress((tmp_path / 'table.csv').read_bytes()))
    for name in ('x.zip', 'x.CSV.gz'):
        assert lists(load_dataset.load_dataset(openais, str(tmp_path / name), 0)) == expected


@pytest.mark.parametrize('content', ['', 'text\n', 'text\n\n""\n'])
def test_a_table_without_text_is_told(tmp_path, small, content):
    (tmp_path / 'x.csv').write_text(content)
    with pytest.raises(ValueError, match='There is no text in .*x.csv'):
        load_dataset.load_dataset(small, str(tmp_path / 'x.csv'), 0)


def test_options_of_tables_are_refused_for_texts(tmp_path, small):
    with pytest.raises(ValueError, match='--column is for tables'):
        load_dataset.load_dataset(small, write(tmp_path, a='x'), 0, column='text')


def test_texts_are_cut_into_blocks_at_all():
    for text in NASTY[:4]:
        parts = list(load_dataset.blocks(iter(text)))
        assert ''.join(parts) == text
        assert len(parts) > 3 or '👩' in text


@pytest.mark.parametrize('name', ['large', 'large.csv'])
def test_a_large_file_needs_little_memory(tmp_path, small, monkeypatch, name):
    monkeypatch.setattr(text_files, 'BLOCK', 2**16)
    line = 'All the world is a stage: and all the men and women merely players.\n'
    (tmp_path / name).write_text('text\n' * (name != 'large') + line * 30_000)  # 2 MB
    small.encode_to_numpy('')
    tracemalloc.start()
    config = dataset_config.DatasetConfig(start_token='', end_token='')
    pieces = load_dataset.encoded(small, str(tmp_path / name), config)
    total = sum(len(tokens) for _, tokens in pieces)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 30_000 * len(small.encode(line if name == 'large' else line[:-1]))
    assert peak < 16 * text_files.BLOCK


@pytest.mark.parametrize('encoding', ['klingon', 'hex', ''])
def test_an_encoding_that_is_none_is_told(tmp_path, small, encoding):
    with pytest.raises(ValueError, match='There is no encoding'):
        load_dataset.load_dataset(small, write(tmp_path, a='x'), 0, encoding)


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


def test_a_sampler_knows_whether_there_may_be_marks_below_0():
    chunks = [np.arange(5, dtype=np.uint16)] * 100
    assert load_dataset.Sampler(chunks).dtype == np.uint16
    assert load_dataset.Sampler([*chunks, np.arange(5, dtype=np.int32)]).dtype == np.int32


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


def test_nothing_joins_texts_whose_characters_are_not_those_of_the_mark(tmp_path):
    path = write(tmp_path, a='one', b='eno')
    letters = encoder.Encoder({'e': 0, 'n': 1, 'o': 2}, [])
    assert lists(load_dataset.load_dataset(letters, path, 50000)) == [[2, 1, 0, 0, 1, 2]]
    with_mark = letters.with_special_tokens('<|endoftext|>')
    (chunk,) = load_dataset.load_dataset(with_mark, path, 50000)
    assert chunk.tolist() == [2, 1, 0, 3, 0, 1, 2, 3]


@pytest.fixture(scope='module')
def special(openais):
    return openais.with_special_tokens('<BOS>,[SEP] x,<BOS>2,a b,1 2 3 4,|x')


@pytest.mark.parametrize('size', [1, 2, 3, 5, 7, 16, 10**6])
def test_a_special_token_is_never_cut_in_two(tmp_path, special, monkeypatch, size):
    monkeypatch.setattr(text_files, 'BLOCK', size)
    enc = special
    text = '<BOS>one<BOS> 2 <BOS>2[SEP] x [SEP] y aa bb a bc 1 2 3 1 2 3 4 5 ||x|x <BO S><BOS' * 3
    (tmp_path / 'text').write_text(text)
    (chunk,) = load_dataset.load_dataset(enc, str(tmp_path / 'text'), 0)
    assert chunk.tolist() == enc.encode(text)
    assert len(list(load_dataset.blocks(iter(text), enc.special))) > 30


def test_a_folder_of_one_row_tables_is_read_or_told(tmp_path, openais, capsys):
    for number in range(7):
        (tmp_path / f'{number}.csv').write_text(f'joke {number}\n')
    with pytest.raises(ValueError, match=r'There is no text in .*the only row of .*0.csv is a tex'):
        load_dataset.load_dataset(openais, str(tmp_path), 0)
    options = {'start_token': '', 'end_token': '', 'no_header': True}
    chunks = load_dataset.load_dataset(openais, str(tmp_path), 0, **options)
    assert [openais.decode(chunk.tolist()) for chunk in chunks] == [f'joke {n}' for n in range(7)]
    (tmp_path / 'text').write_text('text')
    capsys.readouterr()
    load_dataset.load_dataset(openais, str(tmp_path), 0)
    told = capsys.readouterr().err
    assert '7 of 7 tables have names of columns alone, as ' in told
    assert told.count('names its columns') == 5


def test_json_is_read_as_rows(tmp_path, openais):
    (tmp_path / 'x.json').write_text('[{"text": "one"}, "two"]')
    options = {'start_token': '[', 'end_token': ']'}
    (chunk,) = load_dataset.load_dataset(openais, str(tmp_path), 0, **options)
    assert chunk.tolist() == openais.encode('[one]') + openais.encode('[two]')


@pytest.mark.parametrize('character', [' ', '=', 'a', '\n'])
def test_a_word_without_end_is_told_before_it_fills_the_memory(
    tmp_path, small, monkeypatch, character
):
    monkeypatch.setattr(text_files, 'BLOCK', 2**12)
    monkeypatch.setattr(load_dataset, 'LONGEST_WORD', 2**16)
    enough = character * 2**16
    (tmp_path / 'x.gz').write_bytes(gzip.compress(b'one; ' + (character * 10**8).encode()))
    tracemalloc.start()
    with pytest.raises(ValueError, match='x has a word, or white space, of more than 65,536 ch'):
        load_dataset.load_dataset(small, str(tmp_path / 'x.gz'), 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23
    (tmp_path / 'x.gz').write_bytes(gzip.compress((f'one; {enough[2:]}; ' * 3).encode()))
    (chunk,) = load_dataset.load_dataset(small, str(tmp_path / 'x.gz'), 0)
    assert small.decode(chunk.tolist()) == f'one; {enough[2:]}; ' * 3


ROWS = ['Why did it?', 'Because 中文 "quoted", yes', 'third; one\nwith a line']


def damaged_texts():
    """{name: bytes} of small files of each kind."""
    table = io.StringIO()
    csv.writer(table).writerows(
        [['title', 'text'], *([f't{i}', row] for i, row in enumerate(ROWS))]
    )
    table, text = table.getvalue(), '\n'.join(ROWS)
    yield 'a.csv', table.encode()
    yield 'a.tsv', table.replace(',', '\t').encode()
    yield 'a.jsonl', '\n'.join(json.dumps({'text': row}) for row in ROWS).encode()
    yield 'a.json', json.dumps([{'text': row} for row in ROWS]).encode()
    yield 'wide.txt', text.encode('utf-16')
    yield 'a.txt', text.encode()
    yield 'a.csv.gz', gzip.compress(table.encode(), mtime=0)
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, 'w', kind) as members:
            members.writestr('x/a.txt', text)
            members.writestr('b.csv', table)
        yield f'{kind}.zip', archive.getvalue()


SMALL = dict(damaged_texts())


@pytest.mark.parametrize('name', SMALL)
def test_any_bit_of_a_text_may_be_wrong(small, tmp_path, name):
    """In a table or an archive, and what names them in it."""
    path, whole = tmp_path / name, SMALL[name]
    path.write_bytes(whole)
    versions = [*damage.flipped(whole, 7), *damage.cut(whole, 5)]
    found = damage.read_each(
        path, versions, lambda: load_dataset.load_dataset(small, str(path), 50000)
    )
    assert len(found) < len(versions)
