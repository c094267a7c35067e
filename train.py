#!/usr/bin/env python3
"""Fine-tune GPT-2:  python train.py --dataset <file|directory|glob|.npz>"""

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(here) if os.path.basename(here) == 'src' else here)

from src.command_line import flags  # noqa: E402
from src.training import train  # noqa: E402

if __name__ == '__main__':
    flags.run(train.main)
