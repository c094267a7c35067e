"""How the learning rate changes along a run."""

import math


def learning_rate(step, last, config):
    """The learning rate of a step; steps are counted from 1, and `last` is the last of them.

    It rises in a line to --learning_rate in the first --warmup_steps, and then stays or, with
    --schedule linear or cosine, falls to --min_learning_rate at the last step. A run that was
    interrupted stays on its curve when it goes on with the same options.
    """
    highest, lowest, warmup = config.learning_rate, config.min_learning_rate, config.warmup_steps
    if step < warmup:
        return highest * step / warmup
    if config.schedule == 'constant':
        return highest
    done = min(1.0, (step - warmup) / max(1, last - warmup))
    left = 1 - done if config.schedule == 'linear' else (1 + math.cos(math.pi * done)) / 2
    return lowest + (highest - lowest) * left
