"""gpt-2-cloud-run's request: the parameters of GET and POST / to what our texts shall be.

They mean what they mean there, and in gpt-2-simple: `length` counts the prefix, top_p above 0 is
in place of top_k, and a text goes on behind <|endoftext|>.
"""

import math
import sys

from .. import encoder
from . import fields, prompts
from .completions import Request, Settings, bias_of
from .refused import Refused

LONGEST_PREFIX = 500  # characters; what is behind them is left out
DEFAULTS = {
    'length': 1023,
    'temperature': 0.7,
    'top_k': 0,
    'top_p': 0.0,
    'prefix': '',
    'truncate': None,
    'include_prefix': True,
}
NUMBERS = {'temperature': (0, sys.float_info.max), 'top_p': (0, 1)}
WHOLE_NUMBERS = {'length': (1, math.inf), 'top_k': (0, math.inf)}


def parse(parameters, *, enc, hparams, max_tokens):
    """The Request in some parameters: texts, as an address has them, or what JSON gave.

    Raises Refused: one of them cannot be that.
    """
    if not isinstance(parameters, dict):
        raise Refused(f'The body must be a JSON object; it is {fields.TYPES[type(parameters)]}')
    given = {name: value for name, value in parameters.items() if name in DEFAULTS}
    values = dict(DEFAULTS)
    for limits, kind, check in (
        (NUMBERS, float, fields.number), (WHOLE_NUMBERS, int, fields.whole)
    ):  # fmt: skip
        for name in limits:
            values[name] = check({name: _read(given, name, kind)}, name, *limits[name])
    for name in ('prefix', 'truncate'):
        values[name] = encoder.without_surrogates(fields.typed(given, name, str) or '')
    prefix = values['prefix'][:LONGEST_PREFIX]
    ids = prompts.ids_of(prefix, enc, hparams)
    length = min(values['length'] - (len(ids) if prefix else 0), max_tokens)
    settings = Settings(
        length=max(0, length),
        temperature=values['temperature'],
        top_k=0 if values['top_p'] else values['top_k'],
        top_p=values['top_p'] or 1.0,
        bias=bias_of({}, enc, hparams.n_vocab),
        stops=(values['truncate'],) if values['truncate'] else (),
    )
    include_prefix = str(given.get('include_prefix', True)).lower() == 'true'
    return Request([ids], [prefix], settings, echo=include_prefix)


def _read(given, name, kind):
    """The value as a number where it is the text of one, or the default."""
    value = given.get(name)
    if value in (None, ''):
        return DEFAULTS[name]
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            raise fields.wrong_type(value, name, fields.TYPES[kind]) from None
    return value
