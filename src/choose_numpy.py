"""sample.choose again in NumPy, for one row: the same token from the same number.

It serves where TensorFlow is not loaded. See sample.py for what the functions mean.
"""

import numpy as np


def top_k_tokens(logits, k):  # [vocab] -> [kept], ids in their order
    """The k likeliest tokens, and those that equal the last of them; 0 is all."""
    if k == 0 or k >= len(logits):
        return np.arange(len(logits))
    return np.flatnonzero(logits >= np.partition(logits, -k)[-k])


def top_p_smallest(logits, p):  # [kept], 0 < p < 1 -> []
    """The smallest logit among the fewest that together reach p."""
    sorted_logits = np.sort(logits)[::-1]
    cumulative_probs = np.cumsum(_softmax(sorted_logits))
    last = np.sum(cumulative_probs < p)
    return sorted_logits[min(last, len(logits) - 1)]  # the sum of all may round to less than p


def choose(logits, uniform, *, temperature, top_k, top_p):  # [vocab], [] in [0, 1) -> int
    """One token: the likeliest where temperature is None, else drawn.

    Args:
        logits: float32.
        uniform: the number that decides, by inverting the cumulative distribution.
        temperature, top_k, top_p: as in sample.choose; None turns the first and the last off.
    """
    if temperature is None:
        return int(np.argmax(logits))
    logits = logits / np.float32(temperature)
    tokens = top_k_tokens(logits, top_k)
    if top_p is not None:
        tokens = tokens[logits[tokens] >= top_p_smallest(logits[tokens], np.float32(top_p))]
    cumulative = np.cumsum(_softmax(logits[tokens].astype(np.float64)))
    return int(tokens[np.searchsorted(cumulative, uniform * cumulative[-1], side='right')])


def _softmax(x):  # [n] -> the same
    e = np.exp(x - np.max(x))
    return e / np.sum(e)
