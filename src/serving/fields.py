"""Fields of a JSON object, checked for types and limits; mistakes have the names of OpenAI's."""

from .refused import Refused

TYPES = {
    bool: 'a boolean', int: 'an integer', float: 'a decimal', str: 'a string',
    list: 'an array', dict: 'an object', type(None): 'null',
}  # fmt: skip
SHOWN = 60  # characters of what was sent, in a message


def wrong_type(value, name, expected):
    return Refused(
        f"Invalid type for '{name}': expected {expected}, but got {TYPES[type(value)]} instead",
        name,
        'invalid_type',
    )


def typed(given, name, kind):
    """given[name], or None where there is none."""
    value = given.get(name)
    if value is not None and type(value) is not kind:
        raise wrong_type(value, name, TYPES[kind])
    return value


def number(given, name, least, most):
    """given[name] as a float, or None where there is none."""
    value = given.get(name)
    if value is None:
        return None
    if type(value) not in (int, float):
        raise wrong_type(value, name, 'a decimal')
    return float(_in_range(value, name, least, most, 'decimal'))


def whole(given, name, least, most):
    """given[name], or None where there is none."""
    value = typed(given, name, int)
    return None if value is None else _in_range(value, name, least, most, 'integer')


def _in_range(value, name, least, most, kind):
    for allowed, word, sign, limit in (
        (value >= least, 'below_min', '>=', least),
        (value <= most, 'above_max', '<=', most),
    ):
        if not allowed:  # NaN is not, either
            raise Refused(
                f"Invalid '{name}': expected a value {sign} {limit}, but got {str(value)[:20]} "
                'instead',
                name,
                f'{kind}_{word}_value',
            )
    return value


def require_known(given, known, prefix=''):
    for name in given:
        if name not in known:
            raise Refused(
                f'Unrecognized request argument supplied: {prefix}{name[:SHOWN]}',
                code='unknown_parameter',
            )
