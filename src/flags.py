"""Command lines out of Python: a dataclass is the one list of a command's options."""

import argparse
import dataclasses
import sys


def flag(default=dataclasses.MISSING, *, help, **argparse_options):
    """A dataclass field that is also a command-line flag; without a default it is required."""
    return dataclasses.field(default=default, metadata={'help': help, **argparse_options})


def positional(*, help, **argparse_options):
    """A dataclass field that is typed without a name in front of it."""
    return flag(help=help, positional=True, **argparse_options)


def parse(config_class, arguments=None):
    """A `config_class` filled from the command line, with its docstring as the description.

    Raises SystemExit: 2 for a flag that does not exist or a value that is not allowed.
    """
    parser = argparse.ArgumentParser(
        description=config_class.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    for field in dataclasses.fields(config_class):
        options = dict(field.metadata)
        if options.pop('positional', False):
            parser.add_argument(field.name, type=field.type, **options)
        elif field.type is bool:
            parser.add_argument(f'--{field.name}', action='store_true', **options)
        elif field.default is dataclasses.MISSING:
            parser.add_argument(f'--{field.name}', type=field.type, required=True, **options)
        else:
            parser.add_argument(
                f'--{field.name}', type=field.type, default=field.default, **options
            )
    values = vars(parser.parse_args(arguments))
    try:
        return config_class(**values)
    except ValueError as error:  # from __post_init__, which checks what involves several fields
        parser.error(str(error))


def run(main, *arguments):
    """Call `main`; what a user can cause becomes one line on stderr and a non-zero exit."""
    try:
        return main(*arguments)
    except (ValueError, OSError) as error:
        sys.exit(f'{type(error).__name__}: {error}' if not str(error) else str(error))
    except KeyboardInterrupt:
        sys.exit(130)  # 128 + SIGINT, as a shell reports it
