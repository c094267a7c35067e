"""What model.transformer computes on its way, and what each layer would say next.

Nothing is computed in another way than there: the functions are those of model.py.
"""

import tensorflow as tf

from .. import model


def every_layer(hparams, params, X):  # [batch, sequence]
    """For each layer, (h, attentions), and behind the last (h, None).

    h: [batch, sequence, features], what the layer reads: first what model.embed gives, at last what
        ln_f is given.
    attentions: [batch, heads, dst, src], how much each token looks at each.
    """
    h = model.embed(params, X)
    for layer in range(hparams.n_layer):
        of_layer = params[f'h{layer}']
        yield h, attentions(h, of_layer, hparams=hparams)
        h, _ = model.block(h, of_layer, past=None, hparams=hparams)
    yield h, None


def attentions(x, params, *, hparams):
    # x [batch, sequence, features], what a block reads -> [batch, heads, dst, src]
    """The shares in which a block's attention mixes values; they are 1 together for each dst."""
    c = model.conv1d(model.norm(x, params['ln_1']), params['attn']['c_attn'])
    q, k, _ = (model.split_heads(part, hparams.n_head) for part in tf.split(c, 3, axis=2))
    sequence, features = q.shape[-2:]
    # Values of which each is another unit vector come out as their shares. They are as wide as the
    # text is long, and by their width multihead_attn divides.
    q = q * tf.sqrt(sequence / features)
    return model.multihead_attn(q, k, tf.eye(sequence), 0)


def logits_of(h, params):  # [..., features] -> [..., vocab]
    """What would be said next if there were no layer behind h: the logit lens (nostalgebraist)."""
    return model.logits_of(model.norm(h, params['ln_f']), params)
