"""The command that fine-tunes."""

from ..command_line import flags, quiet
from . import train_config


def main():
    config = flags.parse(train_config.TrainConfig)

    quiet.import_tensorflow()  # only now: a mistyped flag need not wait for it
    from . import training

    training.train(config)
