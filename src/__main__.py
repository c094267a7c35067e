"""python -m src COMMAND: what is no script of OpenAI's or Shepperd's."""

import importlib
import sys

from . import flags

# Modules with a main() that reads the rest of the command line.
COMMANDS = ['check_overlap', 'evaluate', 'export', 'train_encoder']


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else ''
    if name not in COMMANDS:
        known = ', '.join(COMMANDS)
        print(f'There is no command {name!r}. Type: python -m src COMMAND; '
              f'COMMAND is {known}', file=sys.stderr)  # fmt: skip
        sys.exit(2)
    sys.argv[:2] = [f'python -m src {name}']  # what --help and errors call it
    importlib.import_module(f'.{name}', __package__).main()


if __name__ == '__main__':
    flags.run(main)
