"""Text to tokens and back: byte pair encoding, as in OpenAI's encoder.py.

A text is cut into words by a pattern; the bytes of a word are written as printable characters; and
neighbours are merged, pair by pair, in the order in which the merges were learnt (Sennrich et al.
2016, arXiv:1508.07909; Radford et al. 2019, section 2.2).

`Encoder.encode` is that, to be read. `Encoder.encode_to_numpy` gives the same ids for whole files,
through tiktoken, or letter by letter, where the vocabulary allows it. A token that is neither a
byte nor made by a merge is special, one id wherever it is in a text; OpenAI's: `<|endoftext|>`.
"""

import array
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
LARGEST = 2**25  # characters in a file; OpenAI's have 1,042,301 and 456,318
CACHE_SIZE = 2**16  # words, 12 MB; demo/shakespeare.txt has 15,057
LONGEST_CACHED = 100  # characters; what is longer hardly comes twice
# Contractions in capitals are not among them; the models learnt from texts cut like this.
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"""
SPACES = r'\s+(?!\S)|\s+'


@functools.lru_cache
def bytes_to_unicode():
    """{byte: character} for all 256 bytes: as they are if they can be printed, else from U+0100."""
    # None is white space, so that merges can be written in a text file with spaces between.
    printable = [*range(ord('!'), ord('~') + 1), *range(ord('¡'), ord('¬') + 1)]
    printable += range(ord('®'), ord('ÿ') + 1)
    others = [byte for byte in range(256) if byte not in printable]
    characters = printable + [256 + n for n in range(len(others))]
    return dict(zip(printable + others, map(chr, characters), strict=True))


def spelled(text):
    """The bytes of a text in UTF-8, as encoder.json and vocab.bpe write them."""
    return ''.join(bytes_to_unicode()[byte] for byte in text.encode('utf-8'))


def cut(text, marks):
    """[text, mark, text, mark, …, text]: a text in parts; the longest mark where several begin."""
    longest_first = sorted(map(re.escape, marks), key=len, reverse=True)
    return re.split(f'({"|".join(longest_first)})', text) if marks else [text]


def merge(symbols, ranks):
    """The symbols of a word after all merges: a list of strings.

    Each round takes the pair of the lowest rank and merges every occurrence, from left to right,
    before it looks at the pairs that this made. A heap knows the lowest pair and links lead over
    what was merged, so that n symbols cost n log n, not n² as scanning the word in each round does.

    Args:
        symbols: the characters of the word, [n].
        ranks: {(first, second): rank}, lower is earlier.
    """
    same = {}  # each symbol once: a word may be millions of spaces
    symbols = [same.setdefault(symbol, symbol) for symbol in symbols]
    end = len(symbols)
    left, right = array.array('q', range(-1, end - 1)), array.array('q', range(1, end + 1))

    def rank(i):  # of the pair of neighbours still standing that begins at i, or None
        return ranks.get((symbols[i], symbols[right[i]])) if 0 <= i and right[i] < end else None

    pairs = [rank(i) * end + i for i in range(end) if rank(i) is not None]  # (rank, i), smaller
    heapq.heapify(pairs)
    while pairs:
        lowest, merged = pairs[0] // end, []
        while pairs and pairs[0] // end == lowest:
            i = heapq.heappop(pairs) % end
            if rank(i) != lowest:  # an earlier merge has taken one of the two
                continue
            j = right[i]
            joined = symbols[i] + symbols[j]
            symbols[i], symbols[j] = same.setdefault(joined, joined), None
            right[i] = right[j]
            if right[i] < end:
                left[right[i]] = i
            merged.append(i)
        for i in merged:
            for begin in (left[i], i):
                if rank(begin) is not None:
                    heapq.heappush(pairs, rank(begin) * end + begin)
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
        made = {*self.byte_decoder, *map(''.join, self.bpe_ranks)}
        texts = {self._text_of(token): i for token, i in encoder.items() if token not in made}
        self.special = {text: i for text, i in texts.items() if text}  # {text: id}
        self.dtype = np.min_scalar_type(max(self.decoder))  # the narrowest for all ids

        self.pat = re.compile(f'{WORDS}|{SPACES}')

    def with_special_tokens(self, names):
        """An Encoder that also has `names`, as in '<BOS>,<EOS>'; new ones are behind all others."""
        encoder = dict(self.encoder)
        for name in filter(None, map(str.strip, without_surrogates(names).split(','))):
            encoder.setdefault(spelled(name), max(encoder.values()) + 1)
        return Encoder(encoder, sorted(self.bpe_ranks, key=self.bpe_ranks.get), self.errors)

    def bpe(self, token):
        """The parts of a word, `token`, with spaces between them."""
        if token in self.cache:
            return self.cache[token]
        word = ' '.join(merge(token, self.bpe_ranks))
        if len(self.cache) >= CACHE_SIZE:
            self.cache.clear()
        self.cache[token] = word
        return word

    def encode(self, text):
        """The ids of a text, a list; `<|endoftext|>` in it is ordinary text.

        Raises ValueError: a character for which the vocabulary has no token.
        """
        marks = self.special.keys() - {END_OF_TEXT}
        return [i for part in self._parts(text, marks, self._encode_ordinary) for i in part]

    def encode_to_numpy(self, text, literal_endoftext=False):
        """The ids of a text, an array [n] of the narrowest unsigned type.

        A special token is one, `<|endoftext|>` too, unless it shall be `literal_endoftext`.

        Raises ValueError as encode does.
        """
        marks = self.special.keys() - ({END_OF_TEXT} if literal_endoftext else set())
        parts = self._parts(text, marks, self._encode_fast)
        return np.concatenate([np.asarray(part, self.dtype) for part in parts])

    def _parts(self, text, marks, encode):
        for number, part in enumerate(cut(without_surrogates(text), marks)):
            yield [self.special[part]] if number % 2 else encode(part)

    def _encode_ordinary(self, text):
        bpe_tokens = []
        for match in self.pat.finditer(text):
            token = spelled(match[0])
            long = len(token) > LONGEST_CACHED
            parts = merge(token, self.bpe_ranks) if long else self.bpe(token).split()
            try:
                bpe_tokens.extend(map(self.encoder.__getitem__, parts))
            except KeyError as error:
                raise ValueError(self._unknown(match[0], error)) from None
        return bpe_tokens

    def _unknown(self, word, token):
        """What to say about a word that needs a `token` which is none: by which character."""
        unknown = (c for c in word if set(self.bpe(spelled(c)).split()) - self.encoder.keys())
        named = next(map(repr, unknown), token)
        return f'The vocabulary has no token {named}, which {word[:40]!r} needs'

    def _encode_fast(self, text):  # -> [n]
        """As _encode_ordinary, in one of two ways that vocabularies may allow."""
        if self._tiktoken:
            with contextlib.suppress(ValueError):  # a million spaces in a row are too much for it
                return self._tiktoken.encode_to_numpy(text, disallowed_special=())
        if self.characters:
            with contextlib.suppress(KeyError):  # _encode_ordinary knows what to say
                return np.fromiter(map(self.characters.__getitem__, text), self.dtype)
        return self._encode_ordinary(text)

    def _text_of(self, token):
        """The text spelled like this, or None where there is none, as of half a character."""
        text = bytes(self.byte_decoder.get(c, 0) for c in token).decode('utf-8', 'replace')
        return text if spelled(text) == token else None

    def decode(self, tokens, complete=True):
        """The text of some ids; unless `complete`, up to a character whose bytes are not all there.

        Raises ValueError: an id that the vocabulary does not have.
        """
        try:
            text = ''.join([self.decoder[token] for token in tokens])
        except KeyError as error:
            known = f'{len(self.decoder)}, {min(self.decoder)} to {max(self.decoder)}'
            raise ValueError(f'There is no token {error}; the vocabulary has {known}') from None
        known = self.byte_decoder  # but somebody's own token may have other characters
        byte = {c: bytes([known[c]]) if c in known else c.encode(errors='replace') for c in {*text}}
        decoder = codecs.getincrementaldecoder('utf-8')(self.errors)
        return decoder.decode(b''.join(map(byte.__getitem__, text)), final=complete)

    @functools.cached_property
    def characters(self):
        """{character: id} where each ordinary token is a character, else None."""
        # Then no merge crosses into the next character; each is encoded as if it stood alone.
        tokens = [t for t, i in self.encoder.items() if i not in self.special.values()]
        characters = {self._text_of(token): self.encoder[token] for token in tokens}
        if not all(c and len(c) == 1 and self.bpe(spelled(c)) == spelled(c) for c in characters):
            return None
        begun = {token[:end] for token in tokens for end in range(2, len(token) + 1)}
        return characters if begun.issuperset(map(''.join, self.bpe_ranks)) else None

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
        if not self.byte_decoder.keys() <= self.encoder.keys():
            return None
        ranks = {bytes([byte]): self.encoder[c] for byte, c in self.byte_encoder.items()}
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
        # What never goes back is grouped, for a faster engine. _parts finds the special tokens, the
        # longest first; but without any, tiktoken looks for an empty one in each place.
        pattern, never = f'(?:{WORDS})|{SPACES}', {END_OF_TEXT: max(ranks.values()) + 1}
        return tiktoken.Encoding('', pat_str=pattern, mergeable_ranks=ranks, special_tokens=never)


def without_surrogates(text):
    """The text with surrogate pairs joined, and U+FFFD for halves, which have no bytes in UTF-8."""
    return text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')


def get_encoder(model_name, models_dir='models'):
    """The Encoder of `models_dir/model_name`. Raises OSError, or ValueError that names the file."""
    directory = os.path.join(models_dir, model_name)
    encoder = _read_encoder(os.path.join(directory, 'encoder.json'))
    return Encoder(encoder, _read_merges(os.path.join(directory, 'vocab.bpe')))


def text_of(path):
    """What is in a file. Raises ValueError: it is not UTF-8, or larger than any vocabulary."""
    with open(path, encoding='utf-8-sig') as file:  # a mark at the beginning is not JSON
        if len(text := file.read(LARGEST + 1)) <= LARGEST:
            return text
    raise ValueError(f'it has more than {LARGEST:,} characters')


def _read_encoder(path):
    try:
        encoder = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8, or nested too deeply
        raise ValueError(f'{path} is not a vocabulary: {error}') from None
    require_ids(path, encoder)
    return encoder


def require_ids(path, encoder):
    """Raise ValueError where `encoder`, from the file `path`, does not map tokens to ids."""
    if not isinstance(encoder, dict) or not encoder:
        raise ValueError(f'{path} is not a vocabulary: it should map tokens to ids')
    if any(type(number) is not int or number < 0 for number in encoder.values()):
        raise ValueError(f'{path} is not a vocabulary: an id must be a whole number from 0')
    if (last := max(encoder.values())) > 2 * len(encoder) + 2**16:  # each is a row of weights
        raise ValueError(f'{path} is not a vocabulary: {len(encoder)} tokens have no id {last}')
    if len(set(encoder.values())) < len(encoder):
        raise ValueError(f'{path} is not a vocabulary: two tokens have the same id')


def _read_merges(path):
    try:
        _, *lines = text_of(path).split('\n')  # the first names the version
    except ValueError as error:
        raise ValueError(f'{path} is not a list of merges: {error}') from None
    merges = [tuple(line.split()) for line in lines]
    for number, pair in enumerate(merges, 2):
        if len(pair) not in (0, 2):
            raise ValueError(f'{path} is not a list of merges: line {number} should be two tokens')
    return [*filter(None, merges)]
