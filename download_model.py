#!/usr/bin/env python3
"""Download OpenAI's models:  python download_model.py 124M"""

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(here) if os.path.basename(here) == 'src' else here)

from src.command_line import flags  # noqa: E402
from src.converting import download_model  # noqa: E402

if __name__ == '__main__':
    flags.run(download_model.main)
