"""What a person types to start a command, in the way in which this process was started.

There are three: `gpt2 train`, where the package is installed; `python -m gpt2 train`, or
`python -m src train` in a checkout; and the scripts, of those commands that have one.
"""

import os
import sys

PACKAGE = __package__.partition('.')[0]  # gpt2, or src in a checkout
SCRIPTS = {
    'download': 'download_model.py',
    'encode': 'encode.py',
    'train': 'train.py',
    'sample': 'src/generate_unconditional_samples.py',
    'interact': 'src/interactive_conditional_samples.py',
}


def begin(name):
    """Let this process be known as what `python -m` or `gpt2` was told to do, as argv has it."""
    by_module = os.path.basename(sys.argv[0]) in ('__main__.py', 'gpt2.py')
    program = f'python -m {PACKAGE}' if by_module else 'gpt2'
    sys.argv[:2] = [f'{program} {name}']  # what --help and errors call it


def command(name):
    """How to start the command `name`; its flags can be put behind it."""
    program, _, _ = sys.argv[0].rpartition(' ')
    if program in ('gpt2', f'python -m {PACKAGE}'):
        return f'{program} {name}'
    if PACKAGE != 'src':
        return f'gpt2 {name}'
    return f'python3 {SCRIPTS[name]}' if name in SCRIPTS else f'python -m src {name}'
