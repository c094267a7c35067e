"""Text to tokens and back: byte pair encoding, as in OpenAI's encoder.py.

A text is cut into words by a pattern; the bytes of a word are written as printable characters; and
neighbours are merged, pair by pair, in the order in which the merges were learnt (Sennrich et al.
2016, arXiv:1508.07909; Radford et al. 2019, section 2.2).

`Encoder.encode` is that, to be read. `Encoder.encode_to_numpy` gives the same ids for whole files,
through tiktoken where the vocabulary allows it.
"""

import codecs
import contextlib
import functools
import heapq
import json
import os

import numpy as np
import regex as re
import tiktoken

END_OF_TEXT = '<|endoftext|>'
CACHE_SIZE = 2**16  # words, 12 MB; demo/shakespeare.txt has 15,057 different ones
LONGEST_CACHED = 100  # characters; what is longer hardly comes twice


@functools.lru_cache
def bytes_to_unicode():
    """{byte: character} for all 256 bytes: themselves where they can be printed, else from U+0100.

    No character is white space, so that merges can be written in a text file with spaces between.
    """
    printable = [*range(ord('!'), ord('~') + 1), *range(ord('¡'), ord('¬') + 1)]
    printable += range(ord('®'), ord('ÿ') + 1)
    others = [byte for byte in range(256) if byte not in printable]
    characters = printable + [256 + n for n in range(len(others))]
    return dict(zip(printable + others, map(chr, characters), strict=True))


def merge(symbols, ranks):
    """The symbols of a word after all merges: a list of strings.

    Each round takes the pair of the lowest rank and merges every occurrence, from left to right,
    before it looks at the pairs that this made. A heap knows the lowest pair and links lead over
    what was merged, so that n symbols cost n log n, not n² as scanning the word in each round does.

    Args:
        symbols: the characters of the word, [n].
        ranks: {(first, second): rank}, lower is earlier.
    """
    symbols = list(symbols)
    end = len(symbols)
    left, right = list(range(-1, end - 1)), list(range(1, end + 1))  # neighbours still standing

    def rank(i):  # of the pair that begins at i; None where none does
        return ranks.get((symbols[i], symbols[right[i]])) if 0 <= i and right[i] < end else None

    pairs = [(rank(i), i) for i in range(end) if rank(i) is not None]
    heapq.heapify(pairs)
    while pairs:
        lowest, _ = pairs[0]
        merged = []
        while pairs and pairs[0][0] == lowest:
            _, i = heapq.heappop(pairs)
            if rank(i) != lowest:  # an earlier merge has taken one of the two
                continue
            j = right[i]
            symbols[i], symbols[j] = symbols[i] + symbols[j], None
            right[i] = right[j]
            if right[i] < end:
                left[right[i]] = i
            merged.append(i)
        for i in merged:
            for begin in (left[i], i):
                if rank(begin) is not None:
                    heapq.heappush(pairs, (rank(begin), begin))
    return [symbol for symbol in symbols if symbol is not None]


class Encoder:
    """Text to ids and back.

    Args:
        encoder: {token: id}, the tokens written in the characters of bytes_to_unicode.
        bpe_merges: pairs of tokens, in the order in which they were learnt.
        errors: what decoding does with bytes that are not UTF-8, as in bytes.decode.
    """

    def __init__(self, encoder, bpe_merges, errors='replace'):
        self.encoder = encoder
        self.decoder = {v: k for k, v in encoder.items()}
        self.errors = errors
        self.byte_encoder = bytes_to_unicode()
        self.byte_decoder = {v: k for k, v in self.byte_encoder.items()}
        self.bpe_ranks = {pair: rank for rank, pair in enumerate(bpe_merges)}
        self.cache = {}
        self.dtype = np.min_scalar_type(max(self.decoder))  # the narrowest for all ids

        # Contractions in capitals are not among them; the models learnt from texts cut like this.
        self.pat = re.compile(
            r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
        )

    def bpe(self, token):
        """The parts of a word, `token`, with spaces between them."""
        if token in self.cache:
            return self.cache[token]
        word = ' '.join(merge(token, self.bpe_ranks))
        if len(token) <= LONGEST_CACHED:
            if len(self.cache) >= CACHE_SIZE:
                self.cache.clear()
            self.cache[token] = word
        return word

    def encode(self, text):
        """The ids of a text, a list; `<|endoftext|>` in it is ordinary text.

        Raises ValueError: a character for which the vocabulary has no token.
        """
        bpe_tokens = []
        for match in self.pat.finditer(without_surrogates(text)):
            token = ''.join(self.byte_encoder[b] for b in match[0].encode('utf-8'))
            try:
                bpe_tokens.extend(self.encoder[bpe_token] for bpe_token in self.bpe(token).split())
            except KeyError as error:
                raise ValueError(
                    f'The vocabulary has no token {error}, which {match[0][:40]!r} needs'
                ) from None
        return bpe_tokens

    def encode_to_numpy(self, text, literal_endoftext=False):
        """The ids of a text, an array [n] of the narrowest unsigned type.

        Each `<|endoftext|>` in it becomes its one token, where the vocabulary has one, unless it
        shall be `literal_endoftext`.

        Raises ValueError as encode does.
        """
        text = without_surrogates(text)
        special = {END_OF_TEXT} if END_OF_TEXT in self.encoder and not literal_endoftext else set()
        if self._tiktoken:
            with contextlib.suppress(ValueError):  # a million spaces in a row are too much for it
                ids = self._tiktoken.encode_to_numpy(
                    text, allowed_special=special, disallowed_special=()
                )
                return ids.astype(self.dtype)
        parts = text.split(END_OF_TEXT) if special else [text]
        ids = self.encode(parts[0])
        for part in parts[1:]:
            ids += [self.encoder[END_OF_TEXT], *self.encode(part)]
        return np.array(ids, self.dtype)

    def decode(self, tokens, complete=True):
        """The text of some ids; unless `complete`, up to a character whose bytes are not all there.

        Raises ValueError: an id that the vocabulary does not have.
        """
        try:
            text = ''.join([self.decoder[token] for token in tokens])
        except KeyError as error:
            raise ValueError(
                f'There is no token {error}; the vocabulary has {len(self.decoder)}, '
                f'{min(self.decoder)} to {max(self.decoder)}'
            ) from None
        decoder = codecs.getincrementaldecoder('utf-8')(self.errors)
        return decoder.decode(bytes(self.byte_decoder[c] for c in text), final=complete)

    @functools.cached_property
    def _tiktoken(self):
        """The same encoding in tiktoken, or None where it would give other ids.

        tiktoken merges the two neighbours whose *joined* bytes have the lowest id; it does not know
        which two a merge was learnt from. That makes no difference where every merge joins what
        was there before it into a new token with a higher id, and merging the characters of each
        such token gives that token back. For let two neighbours join into token t, while all merges
        below t are done. None of them crossed the borders of the two, so inside the borders the
        same was merged as in t alone; and there, what is left before t is the pair that t was
        learnt from.
        """
        ranks = {}
        for byte, character in self.byte_encoder.items():
            if character not in self.encoder:
                return None
            ranks[bytes([byte])] = self.encoder[character]
        known, last = set(self.byte_decoder), -1
        for first, second in self.bpe_ranks:
            token = first + second
            number = self.encoder.get(token, -1)
            learnt_here = {first, second} <= known and token not in known and number > last
            if not learnt_here or merge(token, self.bpe_ranks) != [token]:
                return None
            known.add(token)
            last = number
            ranks[bytes(self.byte_decoder[c] for c in token)] = number
        return tiktoken.Encoding(
            'from vocab.bpe',
            pat_str=self.pat.pattern,
            mergeable_ranks=ranks,
            special_tokens={t: i for t, i in self.encoder.items() if t == END_OF_TEXT},
        )


def without_surrogates(text):
    """The text with its surrogate pairs joined, and halves that stand alone replaced by U+FFFD.

    Half a pair has no bytes in UTF-8, so no token either.
    """
    try:
        text.encode('utf-8')
        return text
    except UnicodeEncodeError:
        return text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')


def get_encoder(model_name, models_dir='models'):
    """The Encoder of `models_dir/model_name`.

    Raises:
        OSError: encoder.json or vocab.bpe cannot be read.
        ValueError: what is in them is not a vocabulary; the message names the file.
    """
    return Encoder(
        encoder=_read_encoder(os.path.join(models_dir, model_name, 'encoder.json')),
        bpe_merges=_read_merges(os.path.join(models_dir, model_name, 'vocab.bpe')),
    )


def _read_encoder(path):
    try:
        with open(path, encoding='utf-8') as file:
            encoder = json.load(file)
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f'{path} is not a vocabulary: {error}') from None
    if not isinstance(encoder, dict) or not encoder:
        raise ValueError(f'{path} is not a vocabulary: it should map tokens to ids')
    if any(type(number) is not int or number < 0 for number in encoder.values()):
        raise ValueError(f'{path} is not a vocabulary: an id must be a whole number from 0')
    if len(set(encoder.values())) < len(encoder):
        raise ValueError(f'{path} is not a vocabulary: two tokens have the same id')
    return encoder


def _read_merges(path):
    try:
        with open(path, encoding='utf-8') as file:
            _, *lines = file.read().split('\n')  # the first names the version
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not a list of merges: {error}') from None
    merges = [tuple(line.split()) for line in lines]
    for number, pair in enumerate(merges, 2):
        if len(pair) not in (0, 2):
            raise ValueError(f'{path} is not a list of merges: line {number} should be two tokens')
    return [pair for pair in merges if pair]
