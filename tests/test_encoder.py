import collections
import itertools
import json
import pathlib
import re
import shutil
import tracemalloc

import numpy as np
import pytest

from src import encoder

HERE = pathlib.Path(__file__).parent


def scanned(symbols, ranks):
    """What merge does, by looking at the whole word in every round."""
    symbols = list(symbols)
    while True:
        pairs = [pair for pair in itertools.pairwise(symbols) if pair in ranks]
        if not pairs:
            return symbols
        first, second = min(pairs, key=ranks.get)
        result = []
        while symbols:
            here = len(symbols) > 1 and (symbols[0], symbols[1]) == (first, second)
            result.append(first + second if here else symbols[0])
            symbols = symbols[2 if here else 1 :]
        symbols = result


def random_merges(random, number, ordered):
    """Merges of a, b and c; where not `ordered`, some ask for what is only made after them."""
    tokens, merges = list('abc'), []
    while len(merges) < number:
        pair = (str(random.choice(tokens)), str(random.choice(tokens)))
        if pair not in merges:
            merges.append(pair)
            tokens.append(''.join(pair))
    if not ordered:
        random.shuffle(merges)
    return [tuple(pair) for pair in merges]


def encoder_with(merges, **others):
    tokens = [*encoder.bytes_to_unicode().values(), *dict.fromkeys(a + b for a, b in merges)]
    return encoder.Encoder({**{token: i for i, token in enumerate(tokens)}, **others}, merges)


def test_merging_by_hand():
    # aaabdaaabac -> ZabdZabac -> ZYdZYac -> XdXac, as in the article on byte pair encoding
    ranks = {('a', 'a'): 0, ('a', 'b'): 1, ('aa', 'ab'): 2}
    assert encoder.merge('aaabdaaabac', ranks) == ['aaab', 'd', 'aaab', 'a', 'c']
    assert encoder.merge('aaa', ranks) == ['aa', 'a']
    assert encoder.merge('', ranks) == []


@pytest.mark.parametrize('ordered', [True, False])
def test_merging_is_scanning_whatever_the_merges(ordered):
    random = np.random.default_rng(0)
    for _ in range(200):
        ranks = {p: i for i, p in enumerate(random_merges(random, 12, ordered))}
        word = ''.join(random.choice(list('abc'), random.integers(0, 40)))
        assert encoder.merge(word, ranks) == scanned(word, ranks)


def test_a_long_word_costs_no_square(openais):
    class Counting(dict):
        def get(self, pair):
            self.looks += 1
            return super().get(pair)

    looks = []
    for n in (1000, 2000, 4000):
        ranks = Counting(openais.bpe_ranks)
        ranks.looks = 0
        encoder.merge('ab' * n, ranks)
        looks.append(ranks.looks)
    assert looks[2] < 2.2 * looks[1] < 2.2 * 2.2 * looks[0]


def test_tokens_of_a_sentence(openais):
    ids = [15496, 11, 995, 13]
    assert openais.encode('Hello, world.') == ids
    assert openais.encode_to_numpy('Hello, world.').tolist() == ids
    assert openais.decode(ids) == 'Hello, world.'


def test_ids_are_openais(openais, golden):
    recorded = golden('golden_ids.json')
    assert len(recorded['strings']) > 300
    for text, ids in zip(recorded['strings'], recorded['ids'], strict=True):
        assert openais.encode(text) == ids
        assert openais.encode_to_numpy(text, literal_endoftext=True).tolist() == ids
        assert openais.decode(ids) == text


def test_shakespeare_has_as_many_tokens_as_ever(openais):
    text = (HERE.parent / 'demo' / 'shakespeare.txt').read_text('utf-8')
    begin, end = text[: int(len(text) * 0.9)], text[int(len(text) * 0.9) :]
    assert [len(openais.encode_to_numpy(part)) for part in (begin, end)] == [301966, 36059]
    assert openais.encode(end) == openais.encode_to_numpy(end).tolist()


def test_a_small_vocabulary_gives_every_text_back(small, golden):
    for text in golden('golden_ids.json')['strings']:
        ids = small.encode(text)
        assert small.decode(ids) == text
        assert small.encode_to_numpy(text, literal_endoftext=True).tolist() == ids


@pytest.mark.parametrize('ordered', [True, False])
def test_files_get_the_same_ids_as_prompts_whatever_the_merges(ordered):
    random = np.random.default_rng(1)
    through = collections.Counter()
    for _ in range(100):
        enc = encoder_with(random_merges(random, 8, ordered))
        through[enc._tiktoken is not None] += 1
        for _ in range(20):
            text = ''.join(random.choice(list('aabbc '), 30))
            assert enc.encode_to_numpy(text).tolist() == enc.encode(text)
    assert through[False] and bool(through[True]) == ordered  # both ways were taken


def test_tiktoken_is_used_for_the_vocabularies_that_matter(openais, small):
    assert openais._tiktoken and small._tiktoken


def test_the_mark_between_texts_is_one_token_or_seven(openais):
    text = 'one <|endoftext|><|endoftext|>two'
    mark = [27, 91, 437, 1659, 5239, 91, 29]  # < | end of text | >
    assert openais.encode_to_numpy(text).tolist() == [505, 220, 50256, 50256, 11545]
    assert openais.encode('one<|endoftext|>two') == [505, *mark, 11545]
    literal = openais.encode_to_numpy('one<|endoftext|>two', literal_endoftext=True)
    assert literal.tolist() == [505, *mark, 11545]
    slow = encoder.Encoder(openais.encoder, list(openais.bpe_ranks))
    slow._tiktoken = None
    assert slow.encode_to_numpy(text).tolist() == [505, 220, 50256, 50256, 11545]


def test_a_vocabulary_without_the_mark_reads_it_as_text():
    enc = encoder_with([('e', 'n')])
    ids = enc.encode_to_numpy('<|endoftext|>')
    assert enc.decode(ids.tolist()) == '<|endoftext|>'
    assert len(ids) == 12


SPECIAL = ['<BOS>', '<BOS>2', '[SEP] x', 'naïve 東']


def test_what_is_special(openais, small):
    assert openais.special == {'<|endoftext|>': 50256}
    assert small.special == {'<|endoftext|>': 1023}
    assert openais.with_special_tokens(' <BOS>,<|endoftext|>,,<EOS>, <BOS>').special == {
        '<|endoftext|>': 50256, '<BOS>': 50257, '<EOS>': 50258,
    }  # fmt: skip
    # Half a character, a space and nothing cannot be special: they are never in a text so.
    assert encoder_with([], **{'Ãĥ': 900, 'ä½': 901, 'a b': 902, '': 903}).special == {'Ã': 900}


@pytest.mark.parametrize('fast', [True, False])
def test_a_special_token_is_one_id_and_the_longest_wins(openais, fast):
    enc = openais.with_special_tokens(','.join(SPECIAL))
    if not fast:
        enc._tiktoken = None
    text = 'a<BOS>2<BOS> <BOS[SEP] xnaïve 東naïve'
    ids = [
        *openais.encode('a'), 50258, 50257, *openais.encode(' <BOS'), 50259, 50260,
        *openais.encode('naïve'),
    ]  # fmt: skip
    assert enc.encode(text) == enc.encode_to_numpy(text).tolist() == ids
    assert enc.decode(ids) == text


@pytest.mark.parametrize('name', ['<BOS>', '[SEP] x', '東', '🙂'])
def test_special_tokens_are_written_as_openais_decoder_reads_them(openais, name):
    enc = openais.with_special_tokens(name)
    characters = enc.decoder[50257]
    assert bytearray([enc.byte_decoder[c] for c in characters]).decode('utf-8') == name


def test_what_was_there_keeps_its_id(openais):
    enc = openais.with_special_tokens(' the,###')
    assert enc.encoder['the'] == openais.encoder['the'] and len(enc.encoder) == 50257
    text = 'one <|endoftext|> two'
    more = openais.with_special_tokens('<BOS>')
    assert more.encode(text) == openais.encode(text)
    assert more.encode_to_numpy(text).tolist() == openais.encode_to_numpy(text).tolist()


def characters_of(text):
    """A vocabulary of characters, by hand: 'é' is the bytes Ã ©, which a merge glues together."""
    spelled = {character: encoder.spelled(character) for character in sorted(set(text))}
    merges = {(s[:end], s[end]): None for s in spelled.values() for end in range(1, len(s))}
    return encoder.Encoder({s: i for i, s in enumerate(spelled.values())}, list(merges))


@pytest.mark.parametrize(
    'text', ['hello world\n', '大规模语言模型\n可以微调。', '🙂é😀e\u0301x', 'ÃĀĠ ']
)
def test_characters(text):
    enc = characters_of(text)
    assert enc.special == {} and enc.characters
    for some in (text, text[::-1], text * 3, ''):
        expected = [sorted(set(text)).index(character) for character in some]
        assert enc.encode(some) == enc.encode_to_numpy(some).tolist() == expected
        assert enc.decode(expected) == some


def test_an_unknown_character_is_named_not_its_bytes():
    enc = characters_of('cafe 東京')
    for text, character in (('ca fé', 'é'), ('東亰京', '亰'), ('\ud800', '\ufffd'), ('\n', '\n')):
        with pytest.raises(ValueError, match=f'no token {re.escape(repr(character))}, which'):
            enc.encode(text)
        with pytest.raises(ValueError, match=f'no token {re.escape(repr(character))}, which'):
            enc.encode_to_numpy(text)


def test_merges_across_characters_are_no_character_vocabulary():
    for merges in ([('a', 'b')], [('Ã', '©'), ('Ã©', 'a')], [('b', 'Ã')]):
        enc = encoder.Encoder({'a': 0, 'b': 1, 'Ã©': 2, 'ab': 3}, [('Ã', '©'), *merges])
        assert not enc.characters
    enc = encoder.Encoder({'a': 0, 'b': 1}, [('a', 'b')])
    with pytest.raises(ValueError, match="no token 'ab', which 'ab' needs"):  # nor a letter to name
        enc.encode_to_numpy('ab')


@pytest.mark.parametrize('text, read_as', [('a\ud83d\ude00', 'a😀'), ('a\ud83db', 'a\ufffdb')])
def test_surrogates_become_characters(openais, text, read_as):
    assert openais.encode(text) == openais.encode(read_as)
    assert openais.encode_to_numpy(text).tolist() == openais.encode(read_as)


def test_more_spaces_than_tiktokens_pattern_can_hold(small):
    text = 'x' + ' ' * 1_100_000 + 'x'
    ids = small.encode_to_numpy(text)
    assert small.decode(ids.tolist()) == text


def test_ids_take_no_more_room_than_they_need(openais, small):
    assert openais.encode_to_numpy('x').dtype == np.uint16
    assert small.encode_to_numpy('').dtype == np.uint16
    assert encoder_with([], far=70000).encode_to_numpy('x').dtype == np.uint32


def test_half_a_character_is_replaced(openais):
    first, *rest = openais.encode('😀')
    assert openais.decode([first]) == '\ufffd'
    assert openais.decode([first, *rest]) == '😀'


def test_an_id_that_is_none_is_named(openais):
    with pytest.raises(ValueError, match='no token 50257; the vocabulary has 50257, 0 to 50256'):
        openais.decode([1, 50257])


def test_a_character_without_a_token_is_named():
    enc = encoder.Encoder({'a': 0, 'b': 1}, [])
    assert enc.encode('ab') == [0, 1]
    with pytest.raises(ValueError, match="no token 'c', which 'bcb' needs"):
        enc.encode('bcb')
    with pytest.raises(ValueError, match="no token 'c'"):
        enc.encode_to_numpy('bcb')


def test_the_cache_is_bounded(small, monkeypatch):
    monkeypatch.setattr(encoder, 'CACHE_SIZE', 10)
    enc = encoder.Encoder(small.encoder, list(small.bpe_ranks))
    for number in range(100):
        text = f' {number} ' + 'long' * 100
        assert enc.encode(text) == small.encode(text)
        assert len(enc.cache) <= 10
        assert max(map(len, enc.cache)) <= encoder.LONGEST_CACHED


def test_openais_attributes_are_there(openais):
    assert openais.encoder['Ġworld'] == 995 and openais.decoder[995] == 'Ġworld'
    assert openais.byte_encoder[ord(' ')] == 'Ġ' and openais.byte_decoder['Ġ'] == ord(' ')
    assert openais.bpe_ranks['Ġ', 't'] == 0
    assert openais.bpe('Ġworld') == 'Ġworld' and openais.bpe('xqx') == 'x q x'
    assert openais.errors == 'replace' and openais.pat.findall("I'll go") == ['I', "'ll", ' go']


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(HERE / 'vocabulary', tmp_path / 'copied')
    return tmp_path / 'copied'


@pytest.mark.parametrize('change', ['windows', 'no line end'])
def test_files_from_other_systems_are_read(openais, copied, change):
    merges = (copied / 'vocab.bpe').read_bytes()
    changed = merges.replace(b'\n', b'\r\n') if change == 'windows' else merges.rstrip()
    (copied / 'vocab.bpe').write_bytes(changed)
    enc = encoder.get_encoder('copied', str(copied.parent))
    assert enc.bpe_ranks == openais.bpe_ranks


@pytest.mark.parametrize(
    'name, content, complaint',
    [
        ('encoder.json', b'<html>', 'encoder.json is not a vocabulary'),
        ('encoder.json', b'\xff\xfe', 'encoder.json is not a vocabulary'),
        ('encoder.json', b'[1, 2]', 'should map tokens to ids'),
        ('encoder.json', b'{}', 'should map tokens to ids'),
        ('encoder.json', json.dumps({'a': 1.5}).encode(), 'must be a whole number from 0'),
        ('encoder.json', json.dumps({'a': 1, 'b': 1}).encode(), 'two tokens have the same id'),
        ('vocab.bpe', b'#version: 0.2\na b\na b c\n', 'line 3 should be two tokens'),
        ('vocab.bpe', b'\x00\xff', 'vocab.bpe is not a list of merges'),
    ],
)
def test_files_that_are_no_vocabulary_are_named(copied, name, content, complaint):
    (copied / name).write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        encoder.get_encoder('copied', str(copied.parent))


def test_a_missing_file_is_named(copied):
    (copied / 'vocab.bpe').unlink()
    with pytest.raises(OSError, match='vocab.bpe'):
        encoder.get_encoder('copied', str(copied.parent))


@pytest.mark.parametrize('text', [' ', ' \t', 'ab'])
def test_a_long_word_needs_little_memory(openais, text):
    word = text * (150_000 // len(text))
    tracemalloc.start()
    ids = openais.encode(word)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 90 * len(word)
    assert openais.decode(ids) == word


def test_a_mark_at_the_beginning_of_a_vocabulary_is_no_json(openais, copied):
    content = (copied / 'encoder.json').read_bytes()
    (copied / 'encoder.json').write_bytes(b'\xef\xbb\xbf' + content)
    assert encoder.get_encoder('copied', str(copied.parent)).encoder == openais.encoder


@pytest.mark.parametrize(
    'content, complaint',
    [
        ('[' * 100_000, 'encoder.json is not a vocabulary: maximum recursion depth'),
        ('{"a":' * 100_000, 'encoder.json is not a vocabulary: maximum recursion depth'),
        ('{"a": 0, "b": 1000000000}', 'a vocabulary: 2 tokens have no id 1000000000'),
        ('{"a": 1%s}' % ('0' * 5000), 'encoder.json is not a vocabulary: .*limit'),
    ],
)
def test_vocabularies_that_cannot_be_are_refused(copied, content, complaint):
    (copied / 'encoder.json').write_text(content)
    with pytest.raises(ValueError, match=complaint):
        encoder.get_encoder('copied', str(copied.parent))


@pytest.mark.parametrize('name', ['vocab.bpe', 'encoder.json'])
def test_a_huge_file_is_refused_before_it_is_read(copied, name):
    with open(copied / name, 'r+b') as file:
        file.truncate(10**9)  # zeros, of which none is written
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f'{name} is not .*: it has more than 33,554,432 char'):
            encoder.get_encoder('copied', str(copied.parent))
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_characters_that_stand_for_no_byte_are_themselves():
    enc = encoder.Encoder({'a': 0, '東 <b>': 1, '\ud800': 2}, [])
    assert enc.decode([0, 1, 0, 2]) == 'a東 <b>a?'


def test_any_bit_of_a_vocabulary_may_be_wrong(tmp_path):
    """Nothing but ValueError and OSError comes out, and what is read encodes, or says why not."""
    made = encoder.Encoder({'a': 0, 'b': 1, 'ab': 2, '<|endoftext|>': 3}, [('a', 'b')])
    files = {'encoder.json': json.dumps(made.encoder), 'vocab.bpe': '#version: 0.2\na b\n'}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert encoder.get_encoder('', str(tmp_path)).encode('aab') == [0, 2]
    read = 0
    for name, text in files.items():
        for bit in range(8 * len(text)):
            data = bytearray(text.encode())
            data[bit // 8] ^= 1 << bit % 8
            (tmp_path / name).write_bytes(data)
            try:
                enc = encoder.get_encoder('', str(tmp_path))
                enc.decode(list(enc.decoder))
                read += 1
                assert enc.encode('aab') == enc.encode_to_numpy('aab').tolist()
            except (ValueError, OSError) as error:
                assert '\n' not in str(error)
        (tmp_path / name).write_text(text)
    assert read > 50
