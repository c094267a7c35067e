#!/usr/bin/env python3
"""Fine-tune GPT-2:  python train.py --dataset <file|directory|glob|.npz>"""

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(here) if os.path.basename(here) == 'src' else here)

from src import flags, train_config  # noqa: E402


def main():
    config = flags.parse(train_config.TrainConfig)

    from src import training  # only now: a mistyped flag need not wait for TensorFlow

    training.train(config)


if __name__ == '__main__':
    flags.run(main)
