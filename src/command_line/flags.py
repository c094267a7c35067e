"""Command lines out of Python: a dataclass is the one list of a command's options."""

import argparse
import contextlib
import dataclasses
import numbers
import os
import signal
import sys
import threading

from . import escaping, names, signature, streams


def flag(default=dataclasses.MISSING, *, help, least=None, **argparse_options):
    """A dataclass field that is also a command-line flag; without a default it is required.

    Args:
        least: the smallest number that is allowed.
    """
    metadata = {'help': help, 'least': least, **argparse_options}
    return dataclasses.field(default=default, metadata=metadata)


def positional(*, help, **argparse_options):
    """A dataclass field that is typed without a name in front of it."""
    return flag(help=help, positional=True, **argparse_options)


class _Parser(argparse.ArgumentParser):
    def __init__(self, fields, typed, elsewhere, **options):
        super().__init__(**options)
        self.names, self.typed, self.elsewhere = fields, typed, elsewhere

    def error(self, message):
        """End with one line; where a flag does not exist, it names the nearest one that does."""
        known = [f'--{name}' for name in self.names]
        flags = [text.partition('=')[0] for text in self.typed if text.startswith('--')]
        wrong = [flag for flag in flags if flag not in (*known, '--help', '--')]
        meant = self._meant(wrong[0], known) if wrong else ''
        if message.startswith('unrecognized arguments') and not wrong:
            meant = '. What has spaces in it needs quotes around it.'
        if message.endswith('expected one argument'):
            meant = '. A value that begins with dashes is typed --flag=value.'
        self.exit(2, f'{self.prog}: {message}{meant or "."} --help explains the flags\n')

    def _meant(self, flag, known):
        name = self.elsewhere.get(flag.removeprefix('--').replace('-', '_'))
        return f'. It is called --{name} here.' if name else names.nearest(flag, known)


def parse(config_class, arguments=None, elsewhere=None):
    """A `config_class` filled from the command line, with its docstring as the description.

    Fields that it inherits are explained in groups, each under the docstring of their own class.

    Args:
        elsewhere: {name: ours}, what other programs call a flag.

    Raises SystemExit: 2 for a flag that does not exist or a value that is not allowed.
    """
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    parser = _Parser(
        list(fields),
        sys.argv[1:] if arguments is None else arguments,
        elsewhere or {},
        description=config_class.__doc__,
        usage=' '.join(filter(None, ['%(prog)s', *map(_needed, fields.values()), '[--flag …]'])),
        allow_abbrev=False,
    )
    for owner in config_class.__mro__[:-1]:
        group = parser
        if owner is not config_class:
            group = parser.add_argument_group(owner.__doc__.partition('\n')[0].rstrip('.'))
        for name in owner.__dict__.get('__annotations__', ()):
            if name in fields:
                _add_argument(group, fields.pop(name))
    values = vars(parser.parse_args(arguments))
    try:
        return config_class(**values)
    except ValueError as error:  # from __post_init__, which checks what involves several fields
        parser.error(str(error))


def _needed(field):
    """How the first line of --help names a field; '' where it can be left out."""
    if field.default is not dataclasses.MISSING:
        return ''
    options = field.metadata
    name = options.get('metavar', field.name.upper())
    if not options.get('positional'):
        return f'--{field.name} {name}'
    return {'*': f'[{name} …]', '+': f'{name} …'}.get(options.get('nargs'), name)


def _add_argument(group, field):
    options = {'type': field.type, **field.metadata}
    del options['least']
    if not any(field.default is nothing for nothing in (dataclasses.MISSING, None, False, '')):
        options['help'] += f' (default: {field.default})'
    if options['type'] is str:  # argparse would call it on the default, which is a subclass
        del options['type']
    if options.pop('positional', False):
        group.add_argument(field.name, **options)
    elif field.type is bool:
        options.pop('type')
        group.add_argument(f'--{field.name}', action='store_true', **options)
    elif field.default is dataclasses.MISSING:
        group.add_argument(f'--{field.name}', required=True, **options)
    else:
        group.add_argument(f'--{field.name}', default=field.default, **options)


def check(config):
    """Raise ValueError where a field of a config is not what its flag takes.

    A command line gives the right types by itself; Python does not.
    """
    for field in dataclasses.fields(config):
        value, least = getattr(config, field.name), field.metadata['least']
        if value is None and field.default is None:
            continue
        kinds, what = KINDS[field.type]
        if not isinstance(value, kinds) or (isinstance(value, bool) and field.type is not bool):
            raise ValueError(f'--{field.name} is {value!r}; it must be {what}')
        if choices := field.metadata.get('choices'):
            if value not in choices:
                raise ValueError(
                    f'--{field.name} is {value!r}; it must be one of {", ".join(choices)}'
                    + names.nearest(value, choices)
                )
        if least is not None and not value >= least:
            raise ValueError(f'--{field.name} is {value}; it must be {least} or more')


KINDS = {
    bool: (bool, 'True or False'),
    int: (numbers.Integral, 'a whole number'),
    float: (numbers.Real, 'a number'),
    str: (str, 'text'),
    list: (list, 'a list'),
}


def filled(config_class, options):
    """A `config_class` from keywords. Raises ValueError, where a name is wrong with the nearest."""
    require_known(options, [field.name for field in dataclasses.fields(config_class)])
    return config_class(**options)


def require_known(options, known):
    """Raise ValueError where one of the options is not among the known."""
    for name in options:
        if name not in known:
            raise ValueError(f'there is no option {name!r}{names.nearest(name, known)}')


def call_from_command_line(function, text=(), config_class=None, elsewhere=None):
    """Call `function` with the arguments of the command line, as signature.read takes them.

    Args:
        text: the names of parameters that arrive as they were typed.
        config_class: a dataclass; its fields are flags as well, and the function is given one of
            them as `config`.
        elsewhere: {name: ours}, what other programs call a flag.

    Raises SystemExit: 2 for what is no flag or lacks a value, after one line on stderr.
    """
    fields = dataclasses.fields(config_class) if config_class else ()
    parameters = signature.parameters_of(function, text, fields)
    arguments = sys.argv[1:]
    if signature.asks_for_help(arguments):
        about = config_class.__doc__.partition('\n')[0].rstrip('.') if config_class else ''
        print(signature.explanation(function, parameters, about))
        sys.exit(0)
    try:
        values = signature.read(parameters, arguments, elsewhere or {})
    except ValueError as error:
        print(escaping.printable(str(error)), file=sys.stderr)
        sys.exit(2)
    if config_class:
        typed = {field.name: values.pop(field.name) for field in fields if field.name in values}
        values['config'] = config_class(**typed)
    return function(**values)


def run(main, *arguments):
    """Call `main`; what a user can cause becomes one line on stderr and a non-zero exit.

    Text goes in and out as UTF-8, whatever the terminal's settings; TensorFlow's remarks about
    the machine are left out, and so is Keras, which nothing here uses: it would take 0.7 s and
    50 MB to import. A terminal that is closed ends it as SIGTERM does, and what it has opened is
    cleaned up.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')  # a package of its own; TensorFlow needs none
    _open_streams()
    before = {number: signal.getsignal(number) for number in _endings()}
    for number in before:
        signal.signal(number, _end)
    try:
        return main(*arguments)
    except BrokenPipeError:  # whoever read our output has had enough, as `head` does
        streams.silence()
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, OSError) as error:
        try:
            sys.stdout.flush()
        except OSError:  # its disk is full, which Python would find out again at the end
            streams.silence()
        sys.exit(escaping.printable(str(error)))
    except MemoryError:
        sys.exit('The memory is not enough for this')
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            print(file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        for number, handler in before.items():  # a notebook goes on behind `%run`
            signal.signal(number, handler)


def _open_streams():
    """Let stdin, stdout and stderr be UTF-8, and nothing at all where they are closed."""
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:  # else the next file would be written to as stdout
                os.dup2(nothing, number)
                os.close(nothing)
            mode = 'w' if number else 'r'
            setattr(sys, name, open(number, mode, encoding='utf-8', closefd=False))
        elif hasattr(getattr(sys, name), 'reconfigure'):  # a notebook's has not
            getattr(sys, name).reconfigure(encoding='utf-8', errors='surrogateescape')


def _endings():
    """The signals that end a program, which it then does in order; none in a thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [getattr(signal, name, None) for name in ('SIGTERM', 'SIGHUP')]
    return [n for n in numbers if n and signal.getsignal(n) != signal.SIG_IGN]  # as by nohup


def _end(number, frame):
    sys.exit(128 + number)
