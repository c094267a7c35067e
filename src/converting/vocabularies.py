"""Vocabularies of other programs to an Encoder, and an Encoder to the files of transformers."""

import contextlib
import hashlib
import json
import os

from .. import encoder
from ..command_line import escaping
from ..data import pickles
from ..encoding import train_encoder
from ..model_files import download

TOKENIZER = 'tokenizer.json'
BYTE_LEVEL = {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True,
              'use_regex': True}  # fmt: skip
# A vocabulary of characters: each is a word, by itself.
EACH_CHARACTER = {
    'type': 'Split', 'pattern': {'Regex': r'[\s\S]'}, 'behavior': 'Isolated', 'invert': False,
}  # fmt: skip
ENDS = ('bos_token', 'eos_token', 'unk_token')  # all of them are `<|endoftext|>`
FOREIGN = ('vocab.txt', 'spiece.model', 'tokenizer.model', 'sentencepiece.bpe.model')


def of_folder(directory):
    """(the Encoder of a folder of transformers, sentences on what it does not do).

    Raises ValueError: none, or one that is not of GPT-2's kind; the message says why.
    """
    path = os.path.join(directory, TOKENIZER)
    if os.path.exists(path):
        return _of_tokenizer(path, object_in(path), _added_later(directory))
    path = os.path.join(directory, 'vocab.json')
    merges = os.path.join(directory, 'merges.txt')
    if os.path.exists(path) and os.path.exists(merges):
        enc = encoder_of(path, object_in(path), _merges_of(merges), _added_later(directory))
        return enc, differences(_settings(directory, 'tokenizer_config.json'))
    if foreign := [name for name in FOREIGN if os.path.exists(os.path.join(directory, name))]:
        raise ValueError(
            f'{directory} has the vocabulary {foreign[0]}, which is no byte pair encoding as '
            'GPT-2 has it; it cannot be converted'
        )
    raise ValueError(
        f'{directory} has no {TOKENIZER}, and no vocab.json with merges.txt. Say whose vocabulary '
        'it has: --vocabulary 124M'
    )


def object_in(path):
    """The object in a file of JSON. Raises ValueError where there is none in it."""
    try:
        content = json.loads(encoder.text_of(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is damaged: {error}') from None
    if not isinstance(content, dict):
        raise ValueError(f'{path} is damaged: it should be an object of JSON')
    return content


def _settings(directory, name):
    """The object in a file of JSON; {} where there is no such file."""
    path = os.path.join(directory, name)
    return object_in(path) if os.path.exists(path) else {}


def _merges_of(path):
    try:
        lines = encoder.text_of(path).split('\n')
    except ValueError as error:
        raise ValueError(f'{path} is damaged: {error}') from None
    return [line.split(' ') for line in lines if line.strip() and not line.startswith('#version')]


def _added_later(directory):
    """{text: id} of the tokens that were added to a vocabulary of transformers."""
    added = dict(_settings(directory, 'added_tokens.json'))
    decoder = _settings(directory, 'tokenizer_config.json').get('added_tokens_decoder') or {}
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):
        added |= {token['content']: int(number) for number, token in decoder.items()}
    return added


def _around(content):
    """What a tokenizer.json puts in front of a text, as tokenizer_config.json says it."""
    around = {}
    if _cutting(content).get('add_prefix_space'):
        around['add_prefix_space'] = True
    for part in (content.get('post_processor') or {}).get('single') or []:
        if 'SpecialToken' in part:
            around |= {'add_bos_token': True, 'bos_token': part['SpecialToken']['id']}
    return around


def _cutting(content):
    """The pre-tokenizer of a tokenizer.json; the one that it has in a sequence of one."""
    cutting = content.get('pre_tokenizer') or {}
    if cutting.get('type') == 'Sequence' and len(cutting['pretokenizers']) == 1:
        return cutting['pretokenizers'][0]
    return cutting


def differences(settings):
    """What another tokenizer does in front of a text, by the settings that transformers has."""
    told = []
    if settings.get('add_prefix_space'):
        told.append('Its tokenizer puts a space in front of a text; here, type that yourself')
    if settings.get('add_bos_token'):
        token = escaping.told(settings.get('bos_token') or 'a token')
        told.append(f'Its tokenizer puts {token} in front of a text; here, type that yourself')
    return told


def _of_tokenizer(path, content, added):
    """As of_folder, of what tokenizer.json holds."""
    directory = os.path.dirname(path)
    try:
        kind, parts = content['model'], content['model']['vocab']
        tokens = {token['content']: token['id'] for token in content.get('added_tokens') or []}
        told = differences({**_settings(directory, 'tokenizer_config.json'), **_around(content)})
        told += [
            f'{token["content"]!r:.99} also takes the spaces around it there, and not here'
            for token in content.get('added_tokens') or []
            if token.get('lstrip') or token.get('rstrip')
        ]
        if kind.get('type') == 'WordLevel' and content['pre_tokenizer'] == EACH_CHARACTER:
            enc = train_encoder.of_these(parts)
            return encoder_of(path, enc.encoder, [*enc.bpe_ranks], tokens), told
        _require_byte_pairs(path, content, kind)
        merges = [m.split(' ') if isinstance(m, str) else m for m in kind['merges']]
    except (LookupError, TypeError, AttributeError, UnicodeEncodeError) as error:
        raise ValueError(f'{path} is damaged: {error!r:.200}') from None
    return encoder_of(path, parts, merges, {**added, **tokens}), told


def _require_byte_pairs(path, content, kind):
    """Raise ValueError where a tokenizer cuts or merges in another way than GPT-2's."""
    cutting = _cutting(content)
    odd = {
        'a model of the type ' + str(kind.get('type')): kind.get('type', 'BPE') != 'BPE',
        'a normalizer': content.get('normalizer'),
        f'the pre-tokenizer {cutting.get("type")}': cutting.get('type') != 'ByteLevel',
        'a pre-tokenizer without the pattern of GPT-2': not cutting.get('use_regex', True),
        'marks inside words': kind.get('continuing_subword_prefix')
        or kind.get('end_of_word_suffix'),
        'tokens that no merges make (ignore_merges)': kind.get('ignore_merges'),
    }
    for what, has_it in odd.items():
        if has_it:
            what = escaping.told(what)
            raise ValueError(f'{path} has {what}; GPT-2 has none, and its ids would be others')


def encoder_of(path, vocabulary, merges, added):
    """The Encoder of {token: id}, pairs, and {text: id} of what transformers calls added tokens."""
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise ValueError(f'{path} is damaged: it should map tokens to ids')
    ids = dict(vocabulary)
    if not all(isinstance(text, str) for text in (*ids, *added)):
        raise ValueError(f'{path} is damaged: tokens should be text')
    for text, number in added.items():
        if text in ids and ids[text] == number:
            del ids[text]
        spelled = encoder.spelled(encoder.without_surrogates(text))
        if ids.setdefault(spelled, number) != number:
            raise ValueError(f'{path}: {text!r:.99} is two tokens; here a text is one, or none')
    encoder.require_ids(path, ids)
    merges = [tuple(pair) if isinstance(pair, list | tuple) else () for pair in merges]
    if any(len(pair) != 2 or {*map(type, pair)} != {str} for pair in merges):
        raise ValueError(f'{path} is damaged: a merge should be two tokens')
    in_order = dict(sorted(ids.items(), key=lambda item: item[1]))
    return encoder.Encoder(in_order, merges)


def of_meta(path):
    """The Encoder of a meta.pkl of nanoGPT, {'stoi': {character: id}, …}.

    Raises ValueError where it is no vocabulary of characters.
    """
    with open(path, 'rb') as file:
        meta = pickles.load(file, path)
    ids = meta.get('stoi') if isinstance(meta, dict) else None
    known = isinstance(ids, dict) and all(map(_is_character, ids))
    if not ids or not known:
        raise ValueError(f'{path} is no vocabulary of characters: it should have stoi, with ids')
    encoder.require_ids(path, ids)
    return train_encoder.of_these(ids)


def _is_character(value):
    is_one = isinstance(value, str) and len(value) == 1
    return is_one and encoder.without_surrogates(value) == value


def is_openais(enc):
    """Whether this is the vocabulary of OpenAI's models."""
    files = in_openais_files(enc)
    return all(
        hashlib.sha256(text.encode()).hexdigest() == download.SHA256[name]
        for name, text in files.items()
    )


def in_openais_files(enc):
    """{name: text} of encoder.json and vocab.bpe."""
    pairs = ''.join(f'{first} {second}\n' for first, second in enc.bpe_ranks)
    return {'encoder.json': json.dumps(enc.encoder), 'vocab.bpe': train_encoder.VERSION + pairs}


def in_files_of_transformers(enc, n_ctx):
    """{name: text} of what AutoTokenizer reads.

    Raises ValueError: merges that make no token, which transformers does not take.
    """
    end = encoder.END_OF_TEXT if encoder.END_OF_TEXT in enc.special else None
    settings = {
        'add_prefix_space': False,
        'added_tokens_decoder': {str(i): _added(text) for text, i in sorted_by_id(enc.special)},
        **dict.fromkeys(ENDS, end), 'pad_token': None,
        'clean_up_tokenization_spaces': False, 'errors': 'replace', 'model_max_length': n_ctx,
        'tokenizer_class': 'GPT2Tokenizer',
    }  # fmt: skip
    if enc.characters is not None:
        settings['tokenizer_class'] = 'PreTrainedTokenizerFast'
        kind = {'type': 'WordLevel', 'vocab': enc.characters, 'unk_token': ''}
        files = {TOKENIZER: _tokenizer(enc, kind, EACH_CHARACTER, {'type': 'Fuse'})}
    else:
        files = _of_byte_pairs(enc, end)
    files['tokenizer_config.json'] = settings
    files['special_tokens_map.json'] = dict.fromkeys(ENDS, end) if end else {}
    return {
        name: text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, indent=2)
        for name, text in files.items()
    }


def _of_byte_pairs(enc, end):
    """{name: content} of the files with merges; `end` is `<|endoftext|>`, or None."""
    pairs = [[first, second] for first, second in enc.bpe_ranks]
    if unmade := [pair for pair in pairs if not {*pair, ''.join(pair)} <= enc.encoder.keys()]:
        raise ValueError(
            f'The merge of {unmade[0][0]} and {unmade[0][1]} is none of two tokens to a third; '
            'transformers does not read such a vocabulary'
        )
    added = {text: i for text, i in enc.special.items() if text != end}
    words = {token: i for token, i in enc.encoder.items() if i not in added.values()}
    kind = {
        'type': 'BPE', 'dropout': None, 'unk_token': None, 'continuing_subword_prefix': '',
        'end_of_word_suffix': '', 'fuse_unk': False, 'byte_fallback': False,
        'ignore_merges': False, 'vocab': dict(sorted_by_id(words)), 'merges': pairs,
    }  # fmt: skip
    merges = ''.join(f'{first} {second}\n' for first, second in pairs)
    files = {
        TOKENIZER: _tokenizer(enc, kind, BYTE_LEVEL, {**BYTE_LEVEL, 'add_prefix_space': True}),
        'vocab.json': kind['vocab'],
        'merges.txt': train_encoder.VERSION + merges,
    }
    return {**files, 'added_tokens.json': dict(sorted_by_id(added))} if added else files


def sorted_by_id(ids):
    return sorted(ids.items(), key=lambda item: item[1])


def _added(text):
    flags = dict.fromkeys(('lstrip', 'normalized', 'rstrip', 'single_word'), False)
    return {'content': text, **flags, 'special': True}


def _tokenizer(enc, kind, cutting, decoder):
    """The content of a tokenizer.json."""
    one, other = ({'Sequence': {'id': name, 'type_id': i}} for i, name in enumerate('AB'))
    return {
        'version': '1.0', 'truncation': None, 'padding': None,
        'added_tokens': [{'id': i, **_added(text)} for text, i in sorted_by_id(enc.special)],
        'normalizer': None, 'pre_tokenizer': cutting,
        'post_processor': {
            'type': 'TemplateProcessing', 'single': [one], 'pair': [one, other],
            'special_tokens': {},
        },
        'decoder': decoder, 'model': kind,
    }  # fmt: skip
