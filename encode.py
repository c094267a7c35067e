#!/usr/bin/env python3
"""Encode text once, to train on it often:  python encode.py <file|directory|glob> out.npz"""

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(here) if os.path.basename(here) == 'src' else here)

from src.command_line import flags  # noqa: E402
from src.encoding import encode  # noqa: E402

if __name__ == '__main__':
    flags.run(encode.main)
