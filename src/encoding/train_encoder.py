"""Texts to a vocabulary, encoder.json and vocab.bpe: python -m src train_encoder --help.

Byte pair encoding (Sennrich et al. 2016, arXiv:1508.07909), with ids in OpenAI's order: 256 bytes,
merges as they were learnt, `<|endoftext|>`. Or the characters of the texts alone, sorted, as those
of nanoGPT's data/shakespeare_char/prepare.py. OpenAI's code reads both.
"""

import dataclasses
import json
import os
import sys

import tokenizers
import tqdm

from .. import encoder, load_dataset
from ..command_line import flags
from ..data import text_files, token_files, whole_files

VERSION = '#version: 0.2\n'  # the first line of OpenAI's vocab.bpe
MOST = 2**20  # tokens, for which tokenizers reserves room; four times the largest vocabularies


@dataclasses.dataclass(frozen=True)
class TrainEncoderConfig:
    """Make a vocabulary of texts, to train a model from scratch with."""

    texts: list = flags.positional(
        type=str, nargs='+', metavar='TEXT', help='Files, directories or glob patterns'
    )
    out: str = flags.flag(metavar='DIR', help='The folder for it, such as models/NAME')
    vocab_size: int = flags.flag(
        None, least=1, metavar='N', help='How many tokens, special ones included'
    )
    characters: bool = flags.flag(False, help='A token for each character of the texts, no others')
    special_tokens: str = flags.flag(
        '', metavar='TOKENS', help='Texts that shall be one token each, with commas between'
    )
    encoding: str = flags.flag('utf-8', help='The encoding of the texts')

    def __post_init__(self):
        """Raises ValueError: not one of the two kinds of vocabularies, or no room for its bytes."""
        flags.check(self)
        text_files.require_encoding(self.encoding)
        if self.characters == (self.vocab_size is not None):
            raise ValueError('give either --vocab_size or --characters')
        if os.path.isfile(self.out):
            raise ValueError(f'--out is {self.out}, a file; name a folder')
        if self.vocab_size is not None and self.vocab_size > MOST:
            raise ValueError(f'--vocab_size is {self.vocab_size}; it must be {MOST} or less')
        least = len(_bytes_and(self.special_tokens).encoder)
        if self.vocab_size is not None and self.vocab_size < least:
            raise ValueError(
                f'--vocab_size is {self.vocab_size}; it must be {least} or more, for 256 bytes and '
                'the special tokens'
            )


def main():
    train(flags.parse(TrainEncoderConfig))


def train(config):
    """Write the vocabulary that `config` describes, and say on stderr how large it is.

    Raises:
        ValueError: no text, not text in that encoding, or another vocabulary is there already.
        OSError: a file cannot be read or written.
    """
    enc = of_characters(config) if config.characters else of_byte_pairs(config)
    merges = ''.join(f'{first} {second}\n' for first, second in enc.bpe_ranks)
    write(config.out, {'encoder.json': json.dumps(enc.encoder), 'vocab.bpe': VERSION + merges})
    size = len(enc.encoder)
    print(f'{config.out}: {size:,} tokens', file=sys.stderr)
    if config.vocab_size and size < config.vocab_size:
        print(f'The texts are too short for {config.vocab_size:,}', file=sys.stderr)


def of_characters(config):
    """The Encoder of all characters; it has `<|endoftext|>` where the texts have it."""
    characters, marks = set(), set()
    for text in blocks(config, {encoder.END_OF_TEXT}):
        characters.update(text)
        marks.update(encoder.cut(text, {encoder.END_OF_TEXT})[1::2])
    enc = of_these({character: i for i, character in enumerate(sorted(characters))})
    return enc.with_special_tokens(','.join([*marks, config.special_tokens]))


def of_these(characters):
    """The Encoder of {character: id}."""
    ids = {encoder.spelled(character): i for character, i in characters.items()}
    # What glues the bytes of each together; only its first byte can begin a character.
    merges = dict.fromkeys((s[:end], s[end]) for s in ids for end in range(1, len(s)))
    return encoder.Encoder(ids, merges)


def of_byte_pairs(config):
    """The Encoder whose merges were learnt from the texts between special tokens."""
    least = _bytes_and(config.special_tokens)
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + config.vocab_size - len(least.encoder),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=sys.stderr.isatty(),  # elsewhere it would be empty lines
    )
    texts = blocks(config, least.special)
    ordinary = (part for text in texts for part in encoder.cut(text, least.special)[::2])
    bpe.train_from_iterator(ordinary, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())['model']['merges']]
    tokens = dict.fromkeys([*encoder.bytes_to_unicode().values(), *map(''.join, merges)])
    enc = encoder.Encoder({token: i for i, token in enumerate(tokens)}, merges)
    return enc.with_special_tokens(','.join(least.special))


def _bytes_and(special_tokens):
    """The smallest Encoder for all texts that has these special tokens, and OpenAI's."""
    alphabet = {token: i for i, token in enumerate(encoder.bytes_to_unicode().values())}
    names = f'{encoder.END_OF_TEXT},{special_tokens}'
    return encoder.Encoder(alphabet, []).with_special_tokens(names)


def blocks(config, special):
    """The texts, in blocks that end neither inside a word nor inside one of `special`."""
    paths = sorted({path for text in config.texts for path in text_files.files_of(text)})
    paths = [path for path in paths if not path.endswith(token_files.KINDS)]
    size, found = sum(map(os.path.getsize, paths)), False
    shown_later = not config.characters  # tokenizers reads far ahead, and shows what it does
    with tqdm.tqdm(
        total=size, unit='B', unit_scale=True, unit_divisor=1024, disable=shown_later
    ) as progress:
        for path in paths:
            for name, text in text_files.texts_of(path, config.encoding, progress):
                for block in load_dataset.blocks(load_dataset.with_words(name, text), special):
                    found = found or bool(block)
                    yield block
    if not found:
        raise ValueError(f'There is no text in {", ".join(config.texts)}')


def write(directory, files):
    """Write {name: text} into a directory. Raises ValueError where other ones are there."""
    for name, text in files.items():
        path = os.path.join(directory, name)
        if os.path.exists(path):
            with open(path, 'rb') as file:
                if file.read() != text.encode('utf-8'):
                    raise ValueError(f'{path} is there, of another vocabulary; give another --out')
    os.makedirs(directory, exist_ok=True)
    for name, text in files.items():
        with whole_files.complete(os.path.join(directory, name)) as file:
            file.write(text.encode('utf-8'))
