"""Text to a file of tokens, once, to train on it often."""

import dataclasses
import os
import sys

import numpy as np

from .. import encoder, load_dataset
from ..command_line import flags
from ..data import dataset_config, text_files, token_files, whole_files
from ..model_files import model_directory


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeConfig(model_directory.ModelConfig, dataset_config.EncodingConfig):
    """Encode text into a file of tokens, for train.py --dataset."""

    path: str = flags.positional(metavar='PATH', help='A file, a directory or a glob pattern')
    out_npz: str = flags.positional(
        metavar='OUT.npz',
        help='Where the tokens go; an .npy is not read into memory to train on it, nor is a .bin, '
        'which is as that of nanoGPT',
    )
    num_proc: int = flags.flag(1, least=1, metavar='N', help='Encode in N processes')

    def __post_init__(self):
        """Raises ValueError: a value out of its range, or a file that cannot be written."""
        super().__post_init__()
        if not os.path.isdir(os.path.dirname(self.out_npz) or os.curdir):
            raise ValueError(f'there is no folder to write {self.out_npz} into; make it first')
        if not self.out_npz:
            raise ValueError('OUT.npz is an empty text; name a file')
        for path in (self.out_npz, self.out):
            if os.path.isdir(path):
                raise ValueError(f'{path} is a folder; name a file in it')
        if self.loss_on == 'completion' and self.out_npz.endswith('.bin'):
            raise ValueError('--loss_on completion needs an .npz or .npy: a .bin is learnt whole')

    @property
    def out(self):
        """The file's name, which ends as one of tokens does."""
        known = self.out_npz.endswith(token_files.KINDS)
        return self.out_npz if known else f'{self.out_npz}.npz'


def main():
    encode(flags.parse(EncodeConfig))


def encode(config):
    """Write the file that `config` describes.

    Raises:
        ValueError: no text, not text in that encoding, or no such vocabulary.
        OSError: a file cannot be read or written; what had that name before is still there.
    """
    directory = model_directory.find(
        config.model_name, config.models_dir, model_directory.VOCABULARY
    )
    enc = encoder.get_encoder('', directory).with_special_tokens(config.special_tokens)
    out = config.out
    if os.path.realpath(out) in map(os.path.realpath, text_files.found(config.path)[0]):
        raise ValueError(f'{out} is one of the files in {config.path}; write it elsewhere')

    meta = meta_beside(out, enc)
    print('Reading files', flush=True)
    pieces = load_dataset.encoded(enc, config.path, config, config.num_proc)
    if out.endswith('.bin'):
        pieces = in_a_row(pieces, enc)
    tokens, chunks = token_files.write(out, pieces)
    for path, content in meta.items():
        with whole_files.complete(path) as file:
            file.write(content)
    print('Writing', config.out_npz)
    print(f'{tokens:,} tokens in {chunks:,} chunks', file=sys.stderr)


def in_a_row(pieces, enc):
    """The same tokens as one chunk, with `<|endoftext|>` between those that there were."""
    end, last = enc.special.get(encoder.END_OF_TEXT), None
    for number, chunk in token_files.chunks_of(pieces):
        if number and end not in (None, last):
            yield 0, np.array([end], enc.dtype)
        for tokens in chunk:
            last = int(tokens[-1]) if tokens.size else last
            yield 0, tokens


def meta_beside(out, enc):
    """{path: content} of the meta.pkl that a .bin of characters needs beside it; {} where it has.

    Raises ValueError where that of another vocabulary is there.
    """
    if not out.endswith('.bin') or enc.characters is None or enc.special:
        return {}
    path, content = os.path.join(os.path.dirname(out), token_files.META), token_files.meta_of(enc)
    if not os.path.exists(path):
        return {path: content}
    token_files.require_vocabulary(path, enc)
    return {}
