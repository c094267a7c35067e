"""Vocabularies of others give the ids that transformers gave, or are refused by what they have."""

import json
import shutil

import damage
import pytest
import tokenizers
from conftest import GOLDEN
from conversions import RECORDED, odd_ones

from src import encoder
from src.converting import vocabularies

FOLDER = RECORDED / 'huggingface'
IDS = json.loads((RECORDED / 'ids.json').read_text('utf-8'))


@pytest.fixture
def folder(tmp_path):
    for path in FOLDER.glob('*.json'):
        shutil.copy(path, tmp_path)
    return tmp_path


def changed(folder, name, change):
    content = json.loads((folder / name).read_text('utf-8'))
    change(content)
    (folder / name).write_text(json.dumps(content), 'utf-8')


@pytest.mark.parametrize('directory', [FOLDER, RECORDED / 'vocabulary'])
def test_ids_are_those_of_transformers(directory):
    enc, told = vocabularies.of_folder(str(directory))
    assert [enc.encode_to_numpy(text).tolist() for text in IDS['strings']] == IDS['ids']
    assert [enc.decode(ids) for ids in IDS['ids']] == IDS['strings'] and told == []


@pytest.mark.parametrize('model', ['other_programs', 'openai_checkpoint', 'vocabulary', 'small'])
def test_what_is_written_gives_the_same_ids_in_tokenizers(model, openais, small):
    enc = {'vocabulary': openais, 'small': small}.get(model)
    if model == 'other_programs':
        enc, _ = vocabularies.of_folder(str(FOLDER))
    elif model == 'openai_checkpoint':
        enc = encoder.get_encoder('', str(GOLDEN / model))
    files = vocabularies.in_files_of_transformers(enc, 1024)
    theirs = tokenizers.Tokenizer.from_str(files['tokenizer.json'])
    golden = json.loads((GOLDEN / 'golden_ids.json').read_text('utf-8'))
    for text in golden['strings'] + IDS['strings'] + ['a<|endoftext|>b']:
        try:
            ids = enc.encode_to_numpy(text).tolist()
        except ValueError:
            with pytest.raises(Exception, match='UNK'):
                theirs.encode(text)
            continue
        assert theirs.encode(text).ids == ids
        if '\ufffd' not in text:
            assert theirs.decode(ids, skip_special_tokens=False) == text


def test_characters_beyond_ascii_are_words(tmp_path):
    enc = vocabularies.of_meta(str(RECORDED / 'nanogpt' / 'meta.pkl'))
    files = vocabularies.in_files_of_transformers(enc.with_special_tokens('<|endoftext|>'), 16)
    theirs = tokenizers.Tokenizer.from_str(files['tokenizer.json'])
    text = 'Größe: 中文!\nFirst<|endoftext|>'
    assert theirs.decode(theirs.encode(text).ids, skip_special_tokens=False) == text
    (tmp_path / 'tokenizer.json').write_text(files['tokenizer.json'])
    again, _ = vocabularies.of_folder(str(tmp_path))
    assert again.encode_to_numpy(text).tolist() == theirs.encode(text).ids
    assert again.bpe_ranks == enc.bpe_ranks


def test_what_is_done_around_texts_is_told(folder):
    changed(folder, 'tokenizer_config.json', lambda c: c.update(
        add_prefix_space=True, add_bos_token=True))  # fmt: skip
    changed(folder, 'tokenizer.json', lambda c: c['added_tokens'][1].update(lstrip=True))
    _, told = vocabularies.of_folder(str(folder))
    assert [sentence.partition(' ')[0] for sentence in told] == ['Its', 'Its', "'<|pad|>'"]
    changed(folder, 'tokenizer_config.json', lambda c: c.update(
        add_prefix_space=False, add_bos_token=False))  # fmt: skip
    changed(folder, 'tokenizer.json', lambda c: c['pre_tokenizer'].update(add_prefix_space=True))
    begins = {'single': [{'SpecialToken': {'id': '<|pad|>', 'type_id': 0}}, {'Sequence': {}}]}
    changed(folder, 'tokenizer.json', lambda c: c.update(post_processor=begins))
    _, told = vocabularies.of_folder(str(folder))
    assert 'puts a space in front' in told[0] and 'puts <|pad|> in front' in told[1]


@pytest.mark.parametrize(
    'change, complaint',
    [
        (lambda c: c.update(normalizer={'type': 'NFC'}), 'has a normalizer'),
        (lambda c: c.update(pre_tokenizer={'type': 'Whitespace'}), 'pre-tokenizer Whitespace'),
        (lambda c: c.update(pre_tokenizer=None), 'pre-tokenizer None'),
        (lambda c: c['pre_tokenizer'].update(use_regex=False), 'without the pattern of GPT-2'),
        (lambda c: c['model'].update(type='Unigram'), 'a model of the type Unigram'),
        (lambda c: c['model'].update(end_of_word_suffix='</w>'), 'marks inside words'),
        (lambda c: c['model'].update(ignore_merges=True), 'ignore_merges'),
        (lambda c: c['model']['vocab'].update(x=2.5), 'an id must be a whole number'),
        (lambda c: c['model']['vocab'].update(xyz=3), 'two tokens have the same id'),
        (lambda c: c['model'].update(vocab=[]), 'is damaged: it should map tokens'),
        (lambda c: c['model']['merges'].append('a b c'), 'a merge should be two tokens'),
        (lambda c: c['model']['merges'].append(7), 'a merge should be two tokens'),
        (lambda c: c['added_tokens'].append({'id': 301, 'content': ' I'}), "' I' is two tokens"),
    ],
)
def test_other_kinds_and_damage_are_named(folder, change, complaint):
    changed(folder, 'tokenizer.json', change)
    with pytest.raises(ValueError, match=f'tokenizer.json.*{complaint}') as error:
        vocabularies.of_folder(str(folder))
    assert '\n' not in str(error.value)


def test_vocabularies_of_other_kinds(tmp_path):
    (tmp_path / 'vocab.txt').touch()
    with pytest.raises(ValueError, match='has the vocabulary vocab.txt, which is no byte pair'):
        vocabularies.of_folder(str(tmp_path))


def test_merges_that_make_no_token_are_refused():
    ids = {byte: i for i, byte in enumerate(encoder.bytes_to_unicode().values())}
    with pytest.raises(ValueError, match='The merge of a and b is none of two tokens to a third'):
        vocabularies.in_files_of_transformers(encoder.Encoder(ids, [('a', 'b')]), 16)


@pytest.mark.parametrize(
    'directory, name',
    [
        (FOLDER, 'tokenizer.json'),
        (FOLDER, 'tokenizer_config.json'),
        (RECORDED / 'vocabulary', 'vocab.json'),
        (RECORDED / 'vocabulary', 'added_tokens.json'),
        (RECORDED / 'vocabulary', 'merges.txt'),
    ],
)
def test_damage_and_lies_are_told_in_one_line(tmp_path, directory, name):
    folder = shutil.copytree(directory, tmp_path / 'folder')
    whole = (folder / name).read_bytes()
    every = max(1, len(whole) // 100) | 1
    versions = [*damage.flipped(whole, every), *damage.cut(whole, every)]
    if name != 'merges.txt':
        lies = odd_ones(json.loads(whole), 4)
        versions += [(where, json.dumps(odd).encode()) for where, odd in lies]
        versions += [('nested', b'[' * 100_000), ('also nested', b'{"a":' * 100_000)]
    versions.append(('spaces', b' ' * 2**26))

    def read():
        enc, told = vocabularies.of_folder(str(folder))
        return enc, ''.join(told)

    found = damage.read_each(folder / name, versions, read, str(folder))
    assert 9 < len(found) < len(versions) - 9
    assert all(told.isprintable() for _, (_, told) in found)
