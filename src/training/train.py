"""The command that fine-tunes."""

from ..command_line import flags, quiet
from . import train_config


def main():
    config = flags.parse(train_config.TrainConfig, elsewhere=train_config.ELSEWHERE)

    quiet.import_tensorflow()  # only now: a mistyped flag need not wait for it
    from . import training

    training.train(config)
