#!/usr/bin/env python3
"""Encode text once, to train on it often:  python encode.py <file|directory|glob> out.npz"""

import dataclasses
import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(here) if os.path.basename(here) == 'src' else here)

from src import encoder, flags, load_dataset, model_directory  # noqa: E402


@dataclasses.dataclass(frozen=True)
class EncodeConfig:
    """Encode text into an .npz file of tokens, for train.py --dataset."""

    path: str = flags.positional(metavar='PATH', help='A file, a directory or a glob pattern')
    out_npz: str = flags.positional(metavar='OUT.npz', help='Where the tokens go')
    model_name: str = flags.flag(
        model_directory.DEFAULT, metavar='MODEL', help='The model whose vocabulary is used'
    )
    models_dir: str = flags.flag('models', metavar='DIR', help='The folder of the models')
    combine: int = flags.flag(
        50000,
        metavar='CHARS',
        help='Join input files, with <|endoftext|> between them, into chunks of at least this size',
    )
    encoding: str = flags.flag('utf-8', help='The encoding of the text')
    literal_endoftext: bool = flags.flag(
        False, help='Read <|endoftext|> as seven ordinary tokens, as the original did'
    )
    special_tokens: str = flags.flag(
        '',
        metavar='TOKENS',
        help='Texts that shall be one token each, behind the vocabulary, with commas between',
    )

    def __post_init__(self):
        """Raises ValueError: a value out of its range, or a file that cannot be written."""
        if self.combine < 0:
            raise ValueError(f'--combine is {self.combine}; it must be 0 or more')
        if not os.path.isdir(os.path.dirname(self.out_npz) or os.curdir):
            raise ValueError(f'there is no folder to write {self.out_npz} into; make it first')
        if os.path.isdir(self.out_npz):
            raise ValueError(f'{self.out_npz} is a folder; name a file in it')


def main():
    config = flags.parse(EncodeConfig)
    directory = model_directory.find(
        config.model_name, config.models_dir, model_directory.VOCABULARY
    )
    enc = encoder.get_encoder('', directory).with_special_tokens(config.special_tokens)
    out = config.out_npz if config.out_npz.endswith('.npz') else f'{config.out_npz}.npz'
    if os.path.realpath(out) in map(os.path.realpath, load_dataset.files_of(config.path)):
        raise ValueError(f'{out} is one of the files in {config.path}; write it elsewhere')

    print('Reading files', flush=True)
    pieces = load_dataset.encoded(
        enc, config.path, config.combine, config.encoding, config.literal_endoftext
    )
    tokens, chunks = load_dataset.write_npz(out, pieces)
    print('Writing', config.out_npz)
    print(f'{tokens:,} tokens in {chunks:,} chunks', file=sys.stderr)


if __name__ == '__main__':
    flags.run(main)
