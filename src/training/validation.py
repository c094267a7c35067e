"""Validation: what is held out of a dataset, and the loss on what nothing is learnt from."""

import sys

import numpy as np
import tensorflow as tf

from ..evaluation import likelihood
from ..gradients import small_model


def split(chunks, fraction):
    """The chunks to train on, and those that are held out: the last tokens, in their order.

    The first int(tokens * (1 - fraction)) tokens train, so that a chunk may be cut in two.

    Raises ValueError: one of the parts has no two tokens in a row.
    """
    left = int(sum(map(len, chunks)) * (1 - fraction))
    train, held_out = [], []
    for chunk in chunks:
        train.append(chunk[:left])
        held_out.append(chunk[left:])
        left = max(0, left - len(chunk))
    for part, what in ((train, 'to train on'), (held_out, 'held out')):
        if max(map(len, part)) < 2:
            raise ValueError(
                f'--val_split {fraction} leaves no two tokens in a row {what}; the dataset has '
                f'{sum(map(len, chunks))} tokens'
            )
    return [chunk for chunk in train if len(chunk)], [chunk for chunk in held_out if len(chunk)]


class Validation:
    """The same windows each time, so that losses can be compared along a run and between runs.

    Args:
        lm: the model, as it is at each call of `loss`.
        config: a TrainConfig. --val_batch_count 0 takes every token but the first of each chunk.
        sampler: a load_dataset.Sampler of the text.
        window: how many tokens a window has.
        end: the token that hides what is before it, or None.
    """

    def __init__(self, lm, config, sampler, window, end=None):
        suits = small_model.suits(config, lm.hparams)
        parts = small_model.parts_of(config.val_batch_size) if suits else 1
        self.costs = likelihood.compiled(lm, config.lora_scale, end, parts)
        self.end = end
        self.shown = lambda batches, number: batches  # or a progress.Progress.batches
        self.shape = config.val_batch_size, window
        if config.val_batch_count:
            number = config.val_batch_count * config.val_batch_size
            self.windows = [(sampler.sample(window), window - 1) for _ in range(number)]
        else:
            self.windows = list(likelihood.sliding(sampler.chunks, window, window - 1))

    def loss(self, stop):
        """The mean loss of a token in nats; None when the event `stop` is set meanwhile."""
        batch_size, window = self.shape
        total, tokens = 0.0, 0
        number = -(-len(self.windows) // batch_size)
        batches = likelihood.batches(self.windows, batch_size, window, self.end)
        for batch, new in self.shown(batches, number):
            costs = self.costs(tf.constant(batch)).numpy()
            total += np.sum(costs, where=new, dtype=np.float64)
            tokens += np.sum(new)
            if stop.is_set():
                return None
        return total / max(1, tokens)


def is_best(state, loss):
    """Whether a validation loss is the lowest so far; a TrainState remembers it, or counts it."""
    if loss < state.best_loss:
        state.best_loss, state.worse = loss, 0
        return True
    state.worse += 1
    return False


def has_learnt(state, patience):
    """Whether the last `patience` validations had no lower loss, which is said on stderr then."""
    if not 0 < patience <= state.worse:
        return False
    print(
        f'The validation loss was {state.best_loss:.2f} at best, and not lower in the last '
        f'{state.worse} validations; stopping after this step',
        file=sys.stderr,
    )
    return True
