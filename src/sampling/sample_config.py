"""What the two sampling scripts let people say about texts, beyond OpenAI's arguments."""

import dataclasses
import json
import numbers
import os
import re
import sys
import typing

import numpy as np

from .. import encoder
from ..command_line import flags
from ..command_line.flags import flag

SHOWN = 60  # characters of what was typed, in a message
LARGEST_BIAS = 1e6  # logits are far smaller
MOST_BEAMS = 1000  # each has a past of its own
ANY = -1  # in place of a token: whatever it is


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Options of a text. All are off as they are here.

    From Python, `stop` may also be a list, and `logit_bias` a dict.
    """

    stop: str = flag(
        '', help='text at which a sample ends, before it; or a JSON list of such texts'
    )
    truncate: str = flag('', help="the same for one text: gpt-2-simple's name of it")
    include_prefix: bool = flag(False, help='put the prompt in front of each sample')
    repetition_penalty: float = flag(
        1.0,
        least=1e-3,
        help='above 1, what was said before becomes less likely; 1.2 is a good value',
    )
    no_repeat_ngram: int = flag(0, least=0, help='as many tokens in a row are never said twice')
    suppress_endoftext: bool = flag(False, help='never say <|endoftext|>')
    bad_words_file: str = flag(
        '', help='a file with a word or phrase in each line that is not said'
    )
    logit_bias: str = flag('', help='JSON, {text: number}: more or less of the tokens of a text')
    num_beams: int = flag(
        0,
        least=0,
        help='search for the likeliest texts, with as many beams, instead of drawing them',
    )

    def __post_init__(self):
        for name, kinds in (('stop', list | tuple), ('logit_bias', dict)):
            if isinstance(getattr(self, name), kinds):
                object.__setattr__(self, name, json.dumps(getattr(self, name)))
        flags.check(self)
        if self.num_beams > MOST_BEAMS:
            raise ValueError(f'num_beams is {self.num_beams}; it must be {MOST_BEAMS} or less')
        drawn = (
            self.no_repeat_ngram,
            self.suppress_endoftext,
            self.bad_words_file,
            self.logit_bias,
        )
        if self.num_beams and (any(drawn) or self.repetition_penalty != 1):
            raise ValueError(
                'num_beams searches for what the model says by itself; leave out what changes that:'
                ' repetition_penalty, no_repeat_ngram, suppress_endoftext, bad_words_file and '
                'logit_bias'
            )
        if self.bad_words_file:
            read_text(self.bad_words_file)
        self.stops()
        self.biases()  # so that a mistake is told at once

    def stops(self):
        """All texts that end a sample, a list. Outside of JSON too, \\n is a line break."""
        stop = self.stop
        if stop.startswith('['):
            advice = 'a text that begins with [ is typed in a list: \'["[END]"]\''
            stop = _json('stop', stop, advice)
            if not all(isinstance(text, str) for text in stop):
                raise ValueError(f'stop is {self.stop}; a JSON list of texts has them in quotes')
        else:
            stop = [_typed(stop)]
        return [text for text in [*stop, _typed(self.truncate)] if text]

    def biases(self):
        """{text: number}."""
        like = 'it must be like \'{" the": -2}\''
        biases = _json('logit_bias', self.logit_bias, like) if self.logit_bias else {}
        numbers = isinstance(biases, dict) and all(
            _is(float, bias) and abs(bias) <= LARGEST_BIAS for bias in biases.values()
        )
        if not numbers:
            raise ValueError(
                f'logit_bias is {self.logit_bias[:SHOWN]}; {like}, with numbers '
                f'of {-LARGEST_BIAS:g} to {LARGEST_BIAS:g}'
            )
        return biases

    def controls(self, enc, n_vocab):
        """What changes the logits, or None if nothing does."""
        bias = np.zeros(n_vocab, np.float32)
        for text, number in self.biases().items():
            bias[_biased(enc, text, n_vocab)] += number
        if self.suppress_endoftext and encoder.END_OF_TEXT in enc.encoder:
            bias[enc.encoder[encoder.END_OF_TEXT]] = -np.inf
        bias[without_token(enc, n_vocab)] = -np.inf
        banned = []
        if self.bad_words_file:
            words = filter(None, map(str.strip, read_text(self.bad_words_file).split('\n')))
            banned = [ids_of(enc, space + word) for word in words for space in ('', ' ')]
        if self.repetition_penalty == 1 and not (self.no_repeat_ngram or bias.any() or banned):
            return None
        penalty = self.repetition_penalty
        return Controls(
            repetition_penalty=np.array(penalty, np.float32) if penalty != 1 else None,
            no_repeat_ngram=self.no_repeat_ngram,
            bias=bias if bias.any() else None,
            banned=phrases(banned),
        )


class Controls(typing.NamedTuple):
    """What a text shall not say, or say less often. All off as they are here.

    What was said before is what the model still sees: at most n_ctx tokens, the prompt among them.
    """

    repetition_penalty: np.ndarray | None = None  # [], above 1 against repeating
    no_repeat_ngram: int = 0  # as many tokens in a row are never said twice
    bias: np.ndarray | None = None  # [vocab], added to the logits
    banned: np.ndarray | None = None  # [number, longest], phrases, with ANY in front of short ones


def phrases(lists):
    """Lists of ids as an array for Controls.banned; None where there are none."""
    if not lists:
        return None
    longest = max(map(len, lists))
    return np.array([[ANY] * (longest - len(ids)) + list(ids) for ids in lists], np.int32)


def ids_of(enc, text):
    """The ids of a text in which `<|endoftext|>` is the token, as in a dataset; a list."""
    if not isinstance(text, str):
        raise ValueError(f'{str(text)[:SHOWN]!r} is no prompt; it must be text, or a list of texts')
    if encoder.END_OF_TEXT in text:
        return enc.encode_to_numpy(text).tolist()
    return enc.encode(text)


def without_token(enc, n_vocab):
    """The ids that a model may say and its vocabulary cannot write, a list."""
    return [i for i in range(n_vocab) if i not in enc.decoder] if len(enc.decoder) < n_vocab else []


def _biased(enc, text, n_vocab):
    """The ids of a key of logit_bias: a number is the id itself, as in OpenAI's API."""
    if not re.fullmatch('[0-9]{1,9}', text):
        return ids_of(enc, text)
    if int(text) >= n_vocab:
        raise ValueError(f'logit_bias has the id {text}; the model has 0 to {n_vocab - 1}')
    return [int(text)]


def read_text(path):
    """The text of a small file, without a byte order mark. Raises ValueError: it is not UTF-8."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path} is not UTF-8, at byte {error.start}; save it in the encoding UTF-8'
        ) from None


def _typed(text):
    return text.replace('\\n', '\n').replace('\\t', '\t')


def _json(name, text, advice):
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(
            f'{name} is {text[:SHOWN]}, which is not JSON: {error}; {advice}'
        ) from None


PLAIN = SampleConfig()

# OpenAI's arguments: {name: (what it is, the least and the most that it may be)}.
OPTIONS = {
    'length': (int, 1, np.inf),
    'nsamples': (int, 0, np.inf),
    'batch_size': (int, 1, np.inf),
    'temperature': (float, 0, np.inf),
    'top_k': (int, 0, np.inf),
    'top_p': (float, 0, 1),
    'seed': (int, 0, np.inf),
}
MOST = {'length': 10**7, 'batch_size': 10**4}  # what memory could hold, with a token of 20 bytes

# {what another program calls it: what it is called here}, the flags of the two scripts.
ELSEWHERE = {
    'prompt': 'prefix',
    'context': 'prefix',
    'input': 'prefix',
    'stop_token': 'stop',
    'stop_sequence': 'stop',
    'k': 'top_k',
    'p': 'top_p',
    'temp': 'temperature',
    'num_return_sequences': 'nsamples',
    'num_samples': 'nsamples',
    'n': 'nsamples',
    'run_name': 'model_name',
    'model': 'model_name',
    'checkpoint': 'model_name',
    'max_tokens': 'length',
    'max_new_tokens': 'length',
    'max_length': 'length',
    'no_repeat_ngram_size': 'no_repeat_ngram',
    'destination_path': 'out',
    'output': 'out',
}


def check(**options):
    """Raise ValueError where one of OpenAI's arguments is unknown, or cannot be that.

    None is allowed where it means something: as `length` and as `seed`, which may be a list.
    """
    flags.require_known(options, OPTIONS)
    for name, value in options.items():
        if name in ('length', 'seed') and value is None:
            continue
        kind, least, most = OPTIONS[name]
        values = value if name == 'seed' and isinstance(value, list | tuple) else [value]
        if not all(_is(kind, each) and least <= each <= most and each < np.inf for each in values):
            what = 'a whole number' if kind is int else 'a number'
            span = f'{least} or more' if most == np.inf else f'{least} to {most}'
            raise ValueError(f'{name} is {_short(value)!r}; it must be {what}, {span}')
        if name in MOST and value > MOST[name]:
            raise ValueError(f'{name} is {value}; it must be {MOST[name]} or less')


def require_in_window(sequence, length, n_ctx):
    """Raise ValueError where nothing is to be continued, or the window has no room for so much."""
    if not sequence:
        raise ValueError('There is no context to continue; begin with the id of <|endoftext|>')
    room = n_ctx + 1 - sequence
    if length > room:
        allowed = f'the length can be at most {room}' if room > 0 else 'give a shorter context'
        raise ValueError(
            f'{sequence} tokens of context and a length of {length} do not fit into the window of '
            f'{n_ctx}: {allowed}'
        )


def models_dir_in_place_of_top_p(top_p, models_dir):
    """(top_p, models_dir) as they are meant.

    Before top_p came in front of it, models_dir was the eighth of OpenAI's arguments, and the
    programs of that time give it there: interact_model('345M', None, 1, 1, 300, 1, 0, '/models').
    """
    if isinstance(top_p, str) and (os.sep in top_p or os.path.isdir(top_p)):
        print(f'{top_p} is in the place of top_p, and taken as models_dir', file=sys.stderr)
        return 1, top_p
    return top_p, models_dir


def _short(value):
    return value[:SHOWN] if isinstance(value, str) else value


def _is(kind, value):
    kinds = numbers.Integral if kind is int else numbers.Real
    return isinstance(value, kinds) and not isinstance(value, bool)
