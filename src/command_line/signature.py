"""A function's parameters as a command line: in their order, or by name.

`--name value`, `--name=value`, and with one dash or with dashes inside, as python-fire took them,
by which OpenAI's scripts were called. Unlike there, everything is understood before anything runs,
and text arrives as it was typed.
"""

import argparse
import contextlib
import inspect
import json
import os
import re
import sys
import typing

from . import names

FLAG = re.compile(r'--?([A-Za-z][\w-]*)(?:=(.*))?$', re.DOTALL)  # not -1, and no text with spaces
WORDS = {'None': None, 'True': True, 'False': False}
BOOLEANS = {'none': None}
BOOLEANS |= dict.fromkeys(('true', 'yes', 'on', '1'), True)
BOOLEANS |= dict.fromkeys(('false', 'no', 'off', '0'), False)


class Parameter(typing.NamedTuple):
    """One that may be typed."""

    name: str
    kind: type | None  # str is as typed, bool needs no value, None is what Python would read
    default: typing.Any
    explanation: str
    by_position: bool


def parameters_of(function, text=(), fields=()):
    """The Parameters of a function and of a dataclass's fields, in the place of `config`.

    Args:
        text: names of those that are text. Booleans are those that are annotated so.
    """
    explained = _explanations(function)
    found = []
    for name, each in inspect.signature(function).parameters.items():
        if name == 'config' and fields:
            continue
        kind = str if name in text else bool if each.annotation in (bool, bool | None) else None
        found.append(Parameter(name, kind, each.default, explained.get(name, ''), True))
    for field in fields:
        kind = field.type if field.type in (str, bool) else None
        found.append(Parameter(field.name, kind, field.default, field.metadata['help'], False))
    return found


def _explanations(function):
    """{name: text} of the section Args of its docstring."""
    _, _, section = (inspect.getdoc(function) or '').partition('\nArgs:\n')
    found = re.findall(r'^    (\w+): (.*(?:\n {8}.*)*)', section, re.MULTILINE)
    return {name: ' '.join(text.split()) for name, text in found}


def read(parameters, arguments, elsewhere):
    """{name: value} of what was typed.

    Args:
        elsewhere: {name: ours}, what other programs call it; or what is done here instead.

    Raises ValueError: a flag that does not exist, that lacks its value, or a word too many.
    """
    values, positions = {}, []
    words, flag = [word for word in arguments if word != '--'], None
    while words:
        word = words.pop(0)
        if match := FLAG.match(word):
            flag, typed = _flag(match, parameters, elsewhere)
            if typed is None and words and not FLAG.match(words[0]):
                typed = words.pop(0)
            values[flag.name] = _value(flag, _needed(flag, typed, words))
        else:
            if flag and flag.kind is str and isinstance(_read(word), str):
                raise ValueError(_unquoted(flag, values[flag.name], word))
            positions.append(word)
            flag = None
    free = [each for each in parameters if each.by_position and each.name not in values]
    if surplus := positions[len(free) :]:
        problem = f'{surplus[0]!r} is a word too many; a text with spaces needs quotes'
        raise ValueError(f'{problem}. {_known(parameters)}')
    return values | {
        each.name: _value(each, word) for each, word in zip(free, positions, strict=False)
    }


def _flag(match, parameters, elsewhere):
    """(the Parameter, its value or None) of what matches FLAG."""
    by_name = {each.name: each for each in parameters}
    name, typed = match[1].replace('-', '_'), match[2]
    if name in by_name:
        return by_name[name], typed
    positive = by_name.get(name.removeprefix('no'))
    if positive and positive.kind is bool and typed is None:
        return positive, 'False'
    meant = names.nearest(f'--{name}', [f'--{each}' for each in by_name]) or '.'
    told = elsewhere.get(name, '')
    if told in by_name:
        meant = f'; it is called --{told} here.'
    elif ' ' in told:
        meant = f'; {told}.'
    raise ValueError(f'There is no flag --{match[1]}{meant} {_known(parameters)}')


def _known(parameters):
    return f'Known are {", ".join(f"--{each.name}" for each in parameters)}; --help explains them'


def _needed(flag, typed, words):
    if typed is None and flag.kind is bool:
        return 'True'
    if typed is None:
        example = f'. A text that begins with dashes: --{flag.name}={words[0]}' if words else ''
        raise ValueError(f'--{flag.name} needs a value behind it{example}')
    return typed


def _unquoted(flag, begun, word):
    text = f'--{flag.name} {begun} {word}'
    return f'{text}: a text with spaces needs quotes, --{flag.name} "{begun} {word} …"'


def _value(parameter, typed):
    if parameter.kind is str:
        return typed
    if parameter.kind is None:
        return _read(typed)
    if typed.lower() not in BOOLEANS:
        raise ValueError(f'--{parameter.name} is {typed!r}; it must be True or False')
    return BOOLEANS[typed.lower()]


def _read(typed):
    """None, a boolean, a number or a list of them, as Python writes them; anything else is text."""
    if typed in WORDS:
        return WORDS[typed]
    for kind in (int, float, json.loads):
        with contextlib.suppress(ValueError, RecursionError):
            return kind(typed)
    return typed


def asks_for_help(arguments):
    return any(word in ('--help', '-h', '-help') for word in arguments)


def explanation(function, parameters, of_config=''):
    """What --help prints."""
    parser = argparse.ArgumentParser(
        prog=os.path.basename(sys.argv[0]),
        usage='%(prog)s [--flag …]',
        description=(inspect.getdoc(function) or '').partition('\n')[0],
        add_help=False,
    )
    group = parser.add_argument_group('Arguments, by name or in this order')
    for number, each in enumerate(parameters):
        if not each.by_position and (not number or parameters[number - 1].by_position):
            group = parser.add_argument_group(of_config)
        text = each.explanation.replace('%', '%%')
        if each.default not in (None, False, ''):
            text += f' (default: {each.default})'
        options = {'metavar': 'TEXT' if each.kind is str else 'NUMBER'}
        if each.kind is bool:
            options, text = {'action': 'store_true'}, f'{text}; --no{each.name} does not'
        group.add_argument(f'--{each.name}', help=text, **options)
    return parser.format_help()
