"""Texts to vectors: the features of their tokens behind the last layer and ln_f."""

import numpy as np
import tensorflow as tf
import tqdm

from .. import model

TOKENS = 2048  # read at once
POOLINGS = ('mean', 'last')


def embeddings(lm, texts, pooling):
    """A vector for each text, [texts, features] float32.

    What a text gives does not depend on the others: tokens see none behind them, so that short
    texts may stand in a batch with long ones.

    Args:
        texts: the ids of each, lists of 1 to n_ctx.
        pooling: 'mean' of all tokens, or 'last' token, which alone has seen the whole text.
    """
    vectors = np.empty([len(texts), lm.hparams.n_embd], np.float32)
    with tqdm.tqdm(total=len(texts), unit=' texts', delay=2, leave=False, disable=None) as bar:
        for some in batches(texts):
            lengths = np.array([len(texts[i]) for i in some])
            X = np.zeros([len(some), max(lengths)], np.int32)
            for row, i in enumerate(some):
                X[row, : lengths[row]] = texts[i]
            h, _ = model.transformer(lm.hparams, lm.params, tf.constant(X))
            vectors[some] = pooled(h.numpy(), lengths, pooling)
            bar.update(len(some))
    return vectors


def batches(texts):
    """Indices of texts of about one length, as many as have TOKENS with what fills them up."""
    batch = []
    for i in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        if batch and (len(batch) + 1) * len(texts[i]) > TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def pooled(h, lengths, pooling):  # [batch, sequence, features], [batch] -> [batch, features]
    if pooling == 'last':
        return h[np.arange(len(h)), lengths - 1]
    inside = np.arange(h.shape[1]) < lengths[:, None]  # [batch, sequence]
    return (h * inside[..., None]).sum(axis=1) / lengths[:, None]
