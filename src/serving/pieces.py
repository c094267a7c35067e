"""A text in pieces while it grows, none of which ends inside of a character or of what ends it."""

import typing

from ..sampling import endings
from . import drawing


class Entry(typing.NamedTuple):
    """A token, and what the model thought of it."""

    text: str
    offset: int  # characters before it
    logprob: float | None  # None for the first of a prompt, which nothing predicts
    top: dict | None  # {text: logprob} of the likeliest in its place, and of itself


class Piece(typing.NamedTuple):
    text: str
    entries: list  # of the tokens that begin in it


def name_of(enc, token):
    """The text of a token; of one that is not whole characters its bytes, as OpenAI writes them."""
    text = enc.decode([token])
    if '\ufffd' not in text:
        return text
    data = bytes(enc.byte_decoder.get(character, 0x3F) for character in enc.decoder[token])
    try:
        return data.decode('utf-8')
    except UnicodeDecodeError:
        return 'bytes:' + ''.join(f'\\x{byte:02x}' for byte in data)


def entry(enc, offset, token, logs, number):
    """The Entry of a token, with the `number` likeliest; logs is [vocab], or None."""
    if logs is None:
        return Entry(name_of(enc, token), offset, None, None)
    ids = [*drawing.likeliest(logs, number), token]
    numbers = {int(i): max(float(logs[i]), drawing.LOWEST) for i in ids}
    top = {name_of(enc, i): value for i, value in numbers.items()}
    return Entry(name_of(enc, token), offset, numbers[token], top)


class Pieces:
    """What of a text can be shown.

    Attributes:
        stopped: whether one of the texts that end it was there.
    """

    def __init__(self, enc, stops=(), offset=0):
        """offset: the characters that stand before it."""
        self.enc, self.stops, self.stopped = enc, stops, False
        self.before = offset  # characters of what need not be looked at again
        self.ids = []  # of the rest,
        self.text = ''  # and what is known of its text,
        self.shown = 0  # of which so many characters are out
        self.held = []  # entries that are not

    def add(self, token, logs=None, number=None, last=False):
        """The Piece that can be shown when a token comes.

        Args:
            logs: [vocab], before that token; Entries are made where there is a `number`, of as many
                likeliest ones.
            last: no token will come behind it.
        """
        if number is not None:
            offset = self.before + len(self.text)
            self.held.append(entry(self.enc, offset, token, logs, number))
        self.ids.append(token)
        return self._out(last)

    def rest(self, token, logs=None, number=None):
        """The last Piece, when a token ends the text that is none of it; its Entry is there."""
        piece = self._out(last=True)
        if number is not None and not self.stopped:
            offset = self.before + len(self.text)
            piece.entries.append(entry(self.enc, offset, token, logs, number))
        return piece

    def _out(self, last):
        self.text = self.enc.decode(self.ids, complete=last)
        end = endings.ends(self.text, self.stops)
        self.stopped = end is not None
        if self.stopped:
            self.text = self.text[:end]
        elif not last:
            end = len(self.text) - endings.begun(self.text, self.stops)
        piece = Piece(self.text[self.shown : end], self._entries(end, last or self.stopped))
        self.shown = max(self.shown, len(self.text[:end]))
        if self.shown == len(self.text) and self.text == self.enc.decode(self.ids):
            self.before += self.shown
            self.ids, self.text, self.shown = [], '', 0
        return piece

    def _entries(self, end, last):
        """Those of the held that begin before `end`, or all at the end of the text."""
        if last and not self.stopped:
            out, self.held = self.held, []
            return out
        limit = self.before + end
        out = [each for each in self.held if each.offset < limit]
        self.held = [each for each in self.held if each.offset >= limit]
        return out
