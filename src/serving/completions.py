"""OpenAI's request for completions, checked: JSON in, what our texts shall be out.

The names, defaults and limits are those of POST /v1/completions; beside them stand top_k and
repetition_penalty, as other servers call them. null is the default of whatever it stands for.
"""

import dataclasses
import math

import numpy as np

from .. import encoder
from ..sampling import sample_config
from . import fields, prompts
from .refused import Refused

MOST_LOGPROBS = 20  # OpenAI has 5 here, and 20 for chats
MOST_STOPS, LONGEST_STOP = 4, 1000  # characters, which are searched for at each token
MOST_TEXTS = 128  # of one request: prompts times best_of
MOST_TOKENS = 16  # where a request does not say

# {name: (least, most)}
NUMBERS = {
    'temperature': (0, 2),
    'top_p': (0, 1),
    'presence_penalty': (-2, 2),
    'frequency_penalty': (-2, 2),
    'repetition_penalty': (1e-3, 1e3),
}
WHOLE_NUMBERS = {
    'max_tokens': (0, math.inf),
    'n': (1, MOST_TEXTS),
    'best_of': (1, MOST_TEXTS),
    'logprobs': (0, MOST_LOGPROBS),
    'seed': (-(2**63), 2**63 - 1),
    'top_k': (-1, math.inf),
}
OTHERS = (
    'model', 'prompt', 'echo', 'stream', 'stream_options', 'stop', 'logit_bias', 'suffix', 'user'
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a text is drawn, and what ends it."""

    length: int  # tokens at most
    temperature: float = 1.0  # 0 takes the likeliest
    top_k: int = 0  # 0 is all
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    bias: np.ndarray | None = None  # [vocab], added to the logits
    stops: tuple = ()  # texts that end it, before them
    end: int | None = None  # the token that ends it, <|endoftext|>
    logprobs: int | None = None  # of each token, and of as many likeliest ones in its place


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for: of each prompt `n` texts, the best of `best_of`."""

    prompts: list  # of lists of ids
    texts: list  # of the prompts; '' where one begins from nothing, behind <|endoftext|>
    settings: Settings
    n: int = 1
    best_of: int = 1
    echo: bool = False
    stream: bool = False
    include_usage: bool = False
    seed: int | None = None


def parse(body, *, enc, hparams, model_name, max_tokens):
    """The Request in a body, which is what JSON gave.

    Args:
        enc: the encoder.
        hparams: of the model: n_ctx and n_vocab.
        model_name: of the only model there is.
        max_tokens: the most that may be asked for.

    Raises Refused.
    """
    if not isinstance(body, dict):
        raise Refused(f'The body must be a JSON object; it is {fields.TYPES[type(body)]}')
    fields.require_known(body, (*NUMBERS, *WHOLE_NUMBERS, *OTHERS))
    given = {name: value for name, value in body.items() if value is not None}
    _require_model(given, model_name)
    if 'suffix' in given:
        raise Refused(
            'There is no suffix: GPT-2 continues texts, and has not learnt to fill gaps in them',
            'suffix',
            'unsupported_parameter',
        )
    values = {name: fields.number(given, name, *limits) for name, limits in NUMBERS.items()}
    whole = {name: fields.whole(given, name, *limits) for name, limits in WHOLE_NUMBERS.items()}
    values = {name: value for name, value in {**values, **whole}.items() if value is not None}
    stream, echo = (bool(fields.typed(given, name, bool)) for name in ('stream', 'echo'))
    fields.typed(given, 'user', str)
    n, seed = values.pop('n', 1), values.pop('seed', None)
    best_of = values.pop('best_of', n)
    _require_possible(n, best_of, stream)
    include_usage = _include_usage(given, stream)
    length = values.pop('max_tokens', min(MOST_TOKENS, max_tokens))
    fields.whole({'max_tokens': length}, 'max_tokens', 0, max_tokens)
    settings = Settings(
        length=length,
        bias=bias_of(fields.typed(given, 'logit_bias', dict) or {}, enc, hparams.n_vocab),
        stops=_stops(given.get('stop', [])),
        end=enc.encoder.get(encoder.END_OF_TEXT),
        **_as_drawn(values),
    )
    ids, texts = _prompts(given.get('prompt'), best_of, enc, hparams)
    return Request(ids, texts, settings, n, best_of, echo, stream, include_usage, seed)


def _require_model(given, model_name):
    if 'model' not in given:
        raise Refused(f'you must provide a model parameter; here it is {model_name!r}', 'model')
    if fields.typed(given, 'model', str) != model_name:
        raise no_model(given['model'], model_name)


def no_model(name, model_name):
    return Refused(
        f'The model {name[: fields.SHOWN]!r} does not exist; here it is {model_name!r}',
        'model',
        'model_not_found',
        status=404,
    )


def _require_possible(n, best_of, stream):
    if best_of < n:
        raise Refused(f'best_of is {best_of} and n is {n}; it must be n or more', 'best_of')
    if best_of > n and stream:
        raise Refused(
            f'best_of is {best_of} and n is {n}: which texts are the best is known at their end '
            'alone; leave out stream',
            'best_of',
        )


def _include_usage(given, stream):
    """Whether usage is wanted at the end of a stream."""
    options = fields.typed(given, 'stream_options', dict)
    if options is None:
        return False
    if not stream:
        raise Refused(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled",
            'stream_options',
        )
    fields.require_known(options, ('include_usage', 'include_obfuscation'), 'stream_options.')
    return bool(fields.typed(options, 'include_usage', bool))


def _as_drawn(values):
    """OpenAI's values in our terms: top_p 0 is the likeliest token, top_k -1 is all of them."""
    if values.get('top_p') == 0:
        values = {**values, 'temperature': 0.0, 'top_p': 1.0}
    return {**values, 'top_k': max(0, values.get('top_k', 0))}


def _stops(stop):
    stops = [stop] if isinstance(stop, str) else stop
    for each in stops if isinstance(stops, list) else [stops]:
        if not isinstance(each, str):
            raise fields.wrong_type(each, 'stop', 'a string or an array of strings')
        if not 0 < len(each) <= LONGEST_STOP:
            raise Refused(
                f'A text in stop has {len(each)} characters; 1 to {LONGEST_STOP} are allowed',
                'stop',
                'invalid_value',
            )
    if len(stops) > MOST_STOPS:
        raise Refused(
            f'stop has {len(stops)} texts; {MOST_STOPS} are allowed',
            'stop',
            'array_above_max_length',
        )
    return tuple(map(encoder.without_surrogates, stops))


def bias_of(logit_bias, enc, n_vocab):
    """What is added to the logits, or None; ids that the vocabulary has not are never drawn."""
    bias = np.zeros(n_vocab, np.float32)
    for key, value in logit_bias.items():
        if not (key.isascii() and key.isdecimal() and len(key) < 10 and int(key) < n_vocab):
            raise Refused(
                f'logit_bias has the key {key[: fields.SHOWN]!r}; it must be the id of a token, '
                f'0 to {n_vocab - 1}',
                'logit_bias',
                'invalid_value',
            )
        bias[int(key)] = fields.number({'logit_bias': value}, 'logit_bias', -100, 100) or 0
    bias[sample_config.without_token(enc, n_vocab)] = -np.inf
    return bias if bias.any() else None


def _prompts(prompt, best_of, enc, hparams):
    """The ids of each prompt, and its text."""
    each = prompts.each_of(prompt)
    if len(each) * best_of > MOST_TEXTS:
        raise Refused(
            f'{best_of} texts for each of {len(each)} prompts are too many; a request may have '
            f'{MOST_TEXTS}',
            'prompt' if best_of == 1 else 'n',
        )
    ids = [prompts.ids_of(one, enc, hparams) for one in each]
    texts = ['' if one in (None, '') else enc.decode(i) for one, i in zip(each, ids, strict=True)]
    return ids, texts
