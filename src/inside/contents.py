"""What the page shows of a text, packed: page/data.js unpacks it.

A probability p is the byte 255 sqrt(p), rounded: within 0.4 % of p, and nearer where p is small.
"""

import base64
import gzip
import json

import numpy as np
import tensorflow as tf
import tqdm

from ..serving import pieces
from . import every_layer

LARGEST = 255  # the byte of a probability of 1
LIKELIEST = 5  # tokens of the logit lens in each place


def contents(loaded, name, ids):
    """{name: what JSON can hold}, for a text as ids, of a model with that name.

    model, layers, heads: the name, and n_layer and n_head.
    tokens: the texts of the tokens; bytes:\\xe5 where one is no whole characters.
    attention: base64 of gzip of bytes [layer, head, dst and src], for all src <= dst in one row.
    lens: the same of uint32 [layer + 1, token, LIKELIEST], places in `words`, and behind these
        bytes of the probabilities in the same shape; the likeliest first.
    words: the texts of the tokens that the lens has.
    likeliest: LIKELIEST, or fewer where the vocabulary is smaller.
    """
    lm, enc = loaded.lm, loaded.encoder
    known = np.isin(np.arange(lm.hparams.n_vocab), list(enc.decoder))
    dst, src = np.tril_indices(len(ids))
    packed, likeliest, probabilities = [], [], []
    layers = every_layer.every_layer(lm.hparams, lm.params, np.array([ids], np.int32))
    total = lm.hparams.n_layer + 1
    for h, attentions in tqdm.tqdm(layers, total=total, unit=' layers', delay=2, disable=None):
        if attentions is not None:
            packed.append(rounded(attentions.numpy()[0][:, dst, src]))
        shares, best = lens(every_layer.logits_of(h, lm.params)[0], known)
        likeliest.append(best.numpy())
        probabilities.append(rounded(shares.numpy()))
    words, places = np.unique(likeliest, return_inverse=True)
    return {
        'model': name,
        'layers': lm.hparams.n_layer,
        'heads': lm.hparams.n_head,
        'tokens': [pieces.name_of(enc, i) for i in ids],
        'attention': _text_of(np.stack(packed).tobytes()),
        'lens': _text_of(places.astype('<u4').tobytes() + np.stack(probabilities).tobytes()),
        'words': [pieces.name_of(enc, i) for i in words.tolist()],
        'likeliest': likeliest[0].shape[-1],
    }


def rounded(probabilities):
    return np.rint(LARGEST * np.sqrt(probabilities)).astype(np.uint8)


def lens(logits, known):  # [sequence, vocab] -> probabilities and ids, [sequence, LIKELIEST]
    """The likeliest of the ids that are `known`, [vocab] bool: there may be more than tokens."""
    shares = tf.where(known, tf.nn.softmax(logits), -1.0)
    return tf.math.top_k(shares, min(LIKELIEST, int(known.sum())))


def _text_of(data):  # bytes -> text
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode('ascii')


def as_json(told):
    """JSON that may stand in a script element, which nothing in it can end."""
    return json.dumps(told).replace('<', '\\u003c')
