"""Command lines out of Python: a dataclass is the one list of a command's options."""

import argparse
import contextlib
import dataclasses
import functools
import inspect
import io
import os
import signal
import sys

import fire


def flag(default=dataclasses.MISSING, *, help, **argparse_options):
    """A dataclass field that is also a command-line flag; without a default it is required."""
    return dataclasses.field(default=default, metadata={'help': help, **argparse_options})


def positional(*, help, **argparse_options):
    """A dataclass field that is typed without a name in front of it."""
    return flag(help=help, positional=True, **argparse_options)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f'{self.prog}: {message}. --help explains the flags\n')


def parse(config_class, arguments=None):
    """A `config_class` filled from the command line, with its docstring as the description.

    Raises SystemExit: 2 for a flag that does not exist or a value that is not allowed.
    """
    parser = _Parser(
        description=config_class.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    own = config_class.__annotations__  # stand in front of those of the class below it
    for field in sorted(dataclasses.fields(config_class), key=lambda field: field.name not in own):
        options = {'type': field.type, **field.metadata}
        if options['type'] is str:  # argparse would call it on the default, which is a subclass
            del options['type']
        if options.pop('positional', False):
            parser.add_argument(field.name, **options)
        elif field.type is bool:
            options.pop('type')
            parser.add_argument(f'--{field.name}', action='store_true', **options)
        elif field.default is dataclasses.MISSING:
            parser.add_argument(f'--{field.name}', required=True, **options)
        else:
            parser.add_argument(f'--{field.name}', default=field.default, **options)
    values = vars(parser.parse_args(arguments))
    try:
        return config_class(**values)
    except ValueError as error:  # from __post_init__, which checks what involves several fields
        parser.error(str(error))


def call_from_command_line(function, text=(), config_class=None):
    """Call `function` with arguments that fire takes from the command line.

    Fire by itself runs the function first and complains about what was left over afterwards, and
    it reads text that looks like Python as Python. Here everything is understood before anything
    runs, and the parameters named in `text` arrive as they were typed.

    Args:
        config_class: a dataclass; its fields are flags as well, and the function is given one of
            them as `config`.
    """

    class Arguments:
        """What fire is given back; it has no members for a surplus argument to reach."""

    understood = []
    fields = dataclasses.fields(config_class) if config_class else ()

    @functools.wraps(function)
    def understand(*args, **kwargs):
        options = {f.name: kwargs.pop(f.name) for f in fields if f.name in kwargs}
        understood.append((args, kwargs, options))
        return Arguments()

    understand.__signature__ = _with_fields(inspect.signature(function), fields)
    for field in fields:  # the docstring ends with the arguments' explanations
        understand.__doc__ += f'    {field.name}: {field.metadata["help"]}\n    '
    text = [*text, *(field.name for field in fields if field.type is str)]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            fire.Fire(fire.decorators.SetParseFn(str, *text)(understand), serialize=lambda _: None)
    except fire.core.FireExit as stop:
        if stop.code:
            known = ', '.join(f'--{name}' for name in understand.__signature__.parameters)
            error = complaint.getvalue().partition('\n')[0]
            print(f'{error}. Known are {known}; --help explains them', file=sys.stderr)
        else:
            print(complaint.getvalue())  # what was asked for with --help
        raise
    args, kwargs, options = understood[0]
    if config_class:
        kwargs['config'] = config_class(**options)
    return function(*args, **kwargs)


def _with_fields(signature, fields):
    """The signature with a dataclass's fields in the place of its parameter `config`."""
    parameters = [p for name, p in signature.parameters.items() if name != 'config' or not fields]
    by_name = inspect.Parameter.KEYWORD_ONLY
    parameters += [inspect.Parameter(f.name, by_name, default=f.default) for f in fields]
    return signature.replace(parameters=parameters)


def run(main, *arguments):
    """Call `main`; what a user can cause becomes one line on stderr and a non-zero exit.

    Text goes in and out as UTF-8, whatever the terminal's settings; TensorFlow's remarks about
    the machine are left out, and so is Keras, which nothing here uses: it would take 0.7 s and
    50 MB to import.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')  # a package of its own; TensorFlow needs none
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(encoding='utf-8', errors='surrogateescape')
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and clean up
    try:
        return main(*arguments)
    except BrokenPipeError:  # whoever read our output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
