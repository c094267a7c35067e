"""The command that fine-tunes."""

from ..command_line import flags
from . import train_config


def main():
    config = flags.parse(train_config.TrainConfig)

    from . import training  # only now: a mistyped flag need not wait for TensorFlow

    training.train(config)
