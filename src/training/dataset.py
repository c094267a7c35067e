"""Which text a run learns, and on which it validates: one question, whose answer is tokens."""

import typing
import zlib

import numpy as np

from .. import load_dataset
from . import validation

PART = 2**12  # tokens


class Dataset(typing.NamedTuple):
    """Chunks of tokens, as load_dataset.load_dataset gives them."""

    chunks: list  # to train on
    val_chunks: list  # the same ones where nothing is held out
    end: int | None  # the token that ends a text, where a run has to know it


def load(enc, config):
    """The Dataset that a train_config.TrainConfig asks for.

    Raises:
        ValueError: no text there, or too little; see load_dataset.load_dataset.
        OSError: a file cannot be read.
    """
    chunks = _tokens(enc, config.dataset, config)
    val_chunks = chunks
    if config.val_split:
        chunks, val_chunks = validation.split(chunks, config.val_split)
    elif config.val_every and config.val_dataset:
        val_chunks = _tokens(enc, config.val_dataset, config)
    needs_end = config.pack or config.document_mask
    return Dataset(chunks, val_chunks, end_of_texts(enc, config.end_token) if needs_end else None)


def end_of_texts(enc, text):
    """The token that ends a text. Raises ValueError where the vocabulary has none for that."""
    tokens = enc.encode_to_numpy(text)
    if len(tokens) != 1:
        raise ValueError(
            f'{text} is {len(tokens)} tokens in this vocabulary; --pack and --document_mask need '
            'one token that ends a text. Train without them, or with another vocabulary'
        )
    return int(tokens[0])


def _tokens(enc, path, config):
    return load_dataset.load_dataset(enc, path, **config.dataset_options())


def fingerprint(chunks):
    """[tokens, checksum] of chunks: of all tokens, or of a thousand parts of what is very large."""
    total = sum(map(len, chunks))
    apart, checksum = max(PART, total // 1000), 0
    for chunk in chunks:
        checksum = zlib.crc32(str(len(chunk)).encode(), checksum)
        for start in range(0, len(chunk), apart):
            part = np.asarray(chunk[start : start + PART], np.int64)  # whatever type it lies in
            checksum = zlib.crc32(part.tobytes(), checksum)
    return [total, checksum]
