"""`import gpt2` in a checkout, without installing it: the package that lies in src/.

`python -m gpt2` is the command that `pip install .` makes.
"""

import importlib.util
import os
import sys

_src = os.path.join(os.path.dirname(os.path.realpath(__file__)), 'src')
_spec = importlib.util.spec_from_file_location('gpt2', os.path.join(_src, '__init__.py'))
sys.modules['gpt2'] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules['gpt2'])

if __name__ == '__main__':
    from gpt2.__main__ import run

    run()
