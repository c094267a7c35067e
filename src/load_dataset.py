"""Files to chunks of tokens, and chunks to windows, as in Shepperd's load_dataset.py.

Text is read, decoded and encoded block by block, so that a file may be larger than the memory: what
is held is a few blocks, and the tokens in their narrowest type.
"""

import contextlib
import functools
import itertools
import os

import numpy as np
import regex
import tqdm

from . import encoder
from .data import dataset_config, processes, tables, text_files, token_files

# Behind the last of these a text can be cut without changing a token, because no word of the
# encoder's pattern goes on there. A `|` behind a letter may belong to a separator.
CUT = regex.compile(r'(?r)\S(?=\s)|\p{L}(?=[^\p{L}\s|])|\p{N}(?=[^\p{N}\s])')
# Characters without such a place. Each takes 40 bytes to encode.
LONGEST_WORD = 2**23


def load_dataset(enc, path, combine, encoding='utf-8', **options):
    """The tokens of a file, of all files in a directory, or of those that match a glob pattern.

    A text file is one text. Of a table (.csv, .tsv, .jsonl) each row is a text of its own, encoded
    by itself, with tokens around it; all rows of a file are in one chunk.

    Args:
        enc: what encodes, see encoder.Encoder.
        path: text, tables, or files of tokens, the .npz and .npy of encode.py or Shepperd's .npz.
            Of a directory, files and folders whose names begin with a dot are left out; of a .zip,
            too. Files are taken in the order of their names, tokens before text.
        combine: files of fewer characters than this are joined, with `<|endoftext|>` behind each
            that is not in rows.
        encoding: of the text; line ends become '\\n'.
        options: the others of dataset_config.DatasetConfig.

    Returns a list of arrays, [tokens], of the narrowest unsigned type that holds all ids. Those of
    an .npy stay on disk until they are looked at, and have its type. An array with tokens that are
    not to be learnt (`loss_on` 'completion') is int32, and has ~id in their places: below 0.

    Raises:
        ValueError: nothing there, not text in that encoding, a row that cannot be read, or anything
            but ids of this vocabulary in a file of tokens; the message names the file.
        OSError: a file cannot be read.
    """
    config = dataset_config.DatasetConfig(combine=combine, encoding=encoding, **options)
    chunks = (list(chunk) for _, chunk in token_files.chunks_of(encoded(enc, path, config)))
    # What is one piece is not copied: it may be larger than the memory, and on disk.
    return [chunk[0] if len(chunk) == 1 else np.concatenate(chunk) for chunk in chunks]


def encoded(enc, path, config, num_proc=1):
    """What load_dataset returns, piece by piece: (number of the chunk, some of its tokens).

    Args:
        config: a dataset_config.DatasetConfig.
        num_proc: how many processes encode.
    """
    paths = text_files.files_of(path)
    arrays = [p for p in paths if p.endswith(token_files.KINDS)]
    texts = [p for p in paths if not p.endswith(token_files.KINDS)]
    size = sum(os.path.getsize(p) for p in paths)
    number = 0
    with tqdm.tqdm(total=size, unit='B', unit_scale=True, unit_divisor=1024) as progress:
        for array_path in arrays:
            for tokens in token_files.read(array_path, enc, progress):
                yield number, tokens
                number += 1
        told = tables.Told()
        pieces = joined(texts, config, progress, number, _separator(enc), told)
        pieces = rows_of(pieces, enc.special)
        if not number:
            pieces = with_text(pieces, path, told)
        yield from processes.in_order(functools.partial(encode_rows, enc, config), pieces, num_proc)
        told.end()


def with_text(pieces, path, told):
    """The same pieces. Raises ValueError at their end: there was no text in them."""
    found = False
    for number, rows in pieces:
        found = found or any(
            (prompt + text).replace(encoder.END_OF_TEXT, '') for prompt, text in rows
        )
        yield number, rows
    if not found:
        hint = ''
        if told.alone:
            hint = f'. If the only row of {told.alone[0]} is a text: --no_header'
        raise ValueError(f'There is no text in {text_files.shown(path)}{hint}')


def encode_rows(enc, config, piece):
    """(number, [(prompt, text), …]) -> (number, [tokens]).

    Each is encoded by itself; the tokens of prompts are not to be learnt, and are ~id.
    """
    number, rows = piece
    parts = []
    for prompt, text in rows:
        if prompt:
            tokens = enc.encode_to_numpy(prompt, config.literal_endoftext)
            parts.append(~tokens.astype(np.int32))
        parts.append(enc.encode_to_numpy(text, config.literal_endoftext))
    dtype = np.int32 if config.loss_on == 'completion' else enc.dtype
    return number, np.concatenate(parts).astype(dtype, copy=False)


def _separator(enc):
    """What is between texts: nothing, where a vocabulary of some characters cannot write it."""
    with contextlib.suppress(ValueError):
        enc.encode_to_numpy(encoder.END_OF_TEXT)
        return encoder.END_OF_TEXT
    return ''


def joined(paths, config, progress, number=0, separator=encoder.END_OF_TEXT, told=None):
    """(number of the chunk, some of its text, or some of its rows), in turn, from `number` on.

    Files are joined, with a separator behind each, until a chunk has `combine` characters; the file
    that fills it has no separator behind it. Rows have tokens around them, and nothing behind.
    """
    characters = 0
    for path in paths:
        for name, text in text_files.texts_of(path, config.encoding, progress):
            in_rows = tables.in_rows(name, config)
            if in_rows:
                pieces = in_lists(tables.texts_of(name, text, config, told))
            else:
                pieces = with_words(name, text)
            for piece in pieces:
                characters += size_of(piece)
                yield number, piece
            if characters >= config.combine:
                number, characters = number + 1, 0
            elif not in_rows:
                characters += len(separator)
                yield number, separator


def with_words(name, texts):
    """The same blocks of text. Raises ValueError where a word would fill the memory."""
    size = 0
    for text in texts:
        last = CUT.search(text)
        size = len(text) - last.end() if last else size + len(text)
        if size > LONGEST_WORD:
            raise ValueError(
                f'{name} has a word, or white space, of more than {LONGEST_WORD:,} characters: '
                'it is probably no text'
            )
        yield text


def in_lists(rows):
    """The same rows in lists of about as many characters as a block has."""
    held, size = [], 0
    for row in rows:
        held.append(row)
        size += size_of([row])
        if size >= text_files.BLOCK:
            yield held
            held, size = [], 0
    if held:
        yield held


def size_of(piece):
    """The characters of a text, or of a list of rows."""
    if isinstance(piece, str):
        return len(piece)
    return sum(len(prompt) + len(text) for prompt, text in piece)


def rows_of(pieces, special=()):
    """What `joined` gives -> (number of the chunk, [(prompt, text), …]), texts to encode alone."""
    for number, chunk in token_files.chunks_of(pieces):
        for is_text, run in itertools.groupby(chunk, key=lambda piece: isinstance(piece, str)):
            for rows in ([('', text)] for text in blocks(run, special) if text) if is_text else run:
                yield number, rows


def blocks(texts, special=()):
    """The same text in blocks that give the same tokens when encoded, `special` ones among them."""
    reach = max(map(len, special), default=1)
    held, last = [], ''  # `last` are the characters before `text`
    for text in texts:
        both = last + text
        places = (found.end() for found in CUT.finditer(both, max(0, len(last) - 1)))
        if place := next((at for at in places if not _inside(both, at, special)), None):
            cut = place - len(last)
            yield ''.join([*held, text[:cut]])
            held, text = [], text[cut:]
        held.append(text)
        last = both[-reach:]
    yield ''.join(held)


def _inside(text, place, special):
    """Whether one of `special` goes on behind a place, or may do so behind the end of the text."""
    return any(
        text.endswith(mark[:size], 0, place)
        and mark[size:].startswith(text[place : place + len(mark) - size])
        for mark in special
        for size in range(1, len(mark))
    )


class Sampler:
    """Windows of tokens, each as likely as any other that lies inside a chunk.

    That is the distribution of Shepperd's Sampler, with the last windows of a chunk, which his
    leaves out.

    Args:
        chunks: arrays [tokens].
        seed: what numpy.random.default_rng takes; None is different each time.
    """

    def __init__(self, chunks, seed=None):
        self.chunks = chunks
        # Signed where some tokens may be below 0, which is not to be learnt: see windows.
        self.dtype = np.result_type(*{chunk.dtype for chunk in chunks})
        self.sizes = np.array([len(chunk) for chunk in chunks])
        self.total_size = int(self.sizes.sum())
        self.longest = int(self.sizes.max())
        self._random = np.random.default_rng(seed)

    def sample(self, length):
        """A window, [length]. Raises ValueError: no chunk is that long."""
        windows = np.maximum(self.sizes - length + 1, 0).cumsum()  # in the chunks so far
        if not windows[-1]:
            raise ValueError(
                f'No text is as long as a window of {length} tokens; the longest has {self.longest}'
            )
        index = self._random.integers(windows[-1])
        i = np.searchsorted(windows, index, side='right')
        end = self.sizes[i] - (windows[i] - index) + 1
        return self.chunks[i][end - length : end]

    def windows_in(self, epochs, length):
        """How many windows have as many tokens as all text that often."""
        return epochs * self.total_size / length

    def state(self):
        """Where the random numbers are: what JSON can hold, for `restore`."""
        return self._random.bit_generator.state

    def restore(self, state):
        self._random.bit_generator.state = state
