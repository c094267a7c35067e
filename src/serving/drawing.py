"""The next token of one text from the logits behind it, whatever else is running."""

import numpy as np

from ..sampling import sample_numpy
from ..sampling.sample_config import Controls

LOWEST = -9999.0  # in place of minus infinity, which JSON has not


def draw(logits, tokens, begin, uniform, settings):  # [vocab], [n] -> int
    """A token as `settings`, a completions.Settings, will have it.

    Args:
        logits: the model's, float32.
        tokens: the text so far.
        begin: how many of them are the prompt, which repetition_penalty sees and OpenAI's two
            penalties do not.
        uniform: the number in [0, 1) that decides.

    Raises ValueError: the logits are NaN.
    """
    if np.isnan(logits).any():
        raise ValueError(sample_numpy.NO_NUMBERS)
    logits = _controlled(logits, tokens, settings)
    if settings.presence_penalty or settings.frequency_penalty:
        said, times = np.unique(tokens[begin:], return_counts=True)
        penalties = settings.presence_penalty + settings.frequency_penalty * times
        logits = logits.copy()
        logits[said] -= penalties.astype(np.float32)
    return sample_numpy.choose(
        logits,
        uniform,
        temperature=settings.temperature or None,
        top_k=settings.top_k,
        top_p=settings.top_p if 0 < settings.top_p < 1 else None,
    )


def _controlled(logits, tokens, settings):
    penalty = settings.repetition_penalty
    if penalty == 1 and settings.bias is None:
        return logits
    penalty = np.array(penalty, np.float32) if penalty != 1 else None
    return sample_numpy.controlled(logits, tokens, Controls(penalty, bias=settings.bias))


def log_softmax(logits):  # [..., vocab] -> the same, float64
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def likeliest(logs, number):  # [vocab] -> [number]
    """The ids of the likeliest tokens, the likeliest first, and of equals the lower."""
    if number < len(logs):  # those that equal the last of them among them
        ids = np.flatnonzero(logs >= np.partition(logs, -number)[-number]) if number else []
    else:
        ids = np.arange(len(logs))
    return sorted(ids, key=lambda i: (-logs[i], i))[:number]
