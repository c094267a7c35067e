"""What the model thought of each token of a sample."""

import numpy as np
import tensorflow as tf

from . import backends


def of_sample(loaded, sample, top):
    """The log-probability of each token, and the `top` likeliest in its place.

    Args:
        loaded: a generation.Loaded.
        sample: a generation.Sample of it.

    Returns a list of dicts: id, text, logprob (in nats, before temperature, top_k, top_p and
    controls), and top, a list of the same without top.

    Raises ValueError: the sample is longer than the model's window, or the model is LiteRT's.
    """
    backends.require_tensorflow(loaded.lm, 'logprobs')
    n_ctx, decode = loaded.lm.hparams.n_ctx, loaded.encoder.decode
    tokens = [*sample.context, *sample.ids]
    if len(tokens) > n_ctx + 1:
        raise ValueError(
            f'logprobs are for texts that fit into the window of {n_ctx} tokens; this has '
            f'{len(tokens)}. Give a smaller --length'
        )
    logits = loaded.lm(tf.constant([tokens[:-1]], tf.int32))['logits'][0]  # [tokens - 1, vocab]
    logs = tf.nn.log_softmax(logits[len(sample.context) - 1 :]).numpy()  # [ids, vocab]

    def entry(row, token):
        text = decode([int(token)])
        return {'id': int(token), 'text': text, 'logprob': round(float(row[token]), 6)}

    best = np.argsort(-logs, axis=-1, kind='stable')[:, :top]
    return [
        {**entry(row, token), 'top': [entry(row, other) for other in others]}
        for row, token, others in zip(logs, sample.ids, best, strict=True)
    ]
