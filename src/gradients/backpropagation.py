"""The gradients of a step, one layer after the other, from the last to the first.

A tape over the whole model gives all gradients at once, at its end. Here each layer has a tape of
its own. So a layer's gradients can be used up before those of the next one are made, and a layer
need not be remembered: with `recompute` it keeps its input and what attention gave, and all else is
computed a second time when its gradient is wanted (Chen et al. 2016, arXiv:1604.06174), for the
memory of a single layer instead of all of them.
"""

import tensorflow as tf

from .. import model
from . import dropout, fused_loss


def aligned(h, tokens):  # [batch, sequence, features], [batch, sequence] -> [n, features], [n]
    """The features that predict a token, and the token: those at <n, and token n."""
    return tf.reshape(h[:, :-1], [-1, h.shape[-1]]), tf.reshape(tokens[:, 1:], [-1])


def embedded(lm, inputs, starts):  # [batch, sequence]s -> [batch, sequence, features]
    return model.embed(lm.params, inputs, 0 if starts is None else -starts)


def features(lm, inputs, starts, block):  # [batch, sequence]s -> [batch, sequence, features]
    """What predicts the token after each, without gradients; the arguments are those below."""
    x, layer = embedded(lm, inputs, starts), _layer(lm, block)
    more = {} if starts is None else {'starts': starts}
    for i in range(lm.hparams.n_layer):
        x, _ = layer(x, {}, model.by_name(lm.params[f'h{i}'], ''), more)
    return model.norm(x, lm.params['ln_f'])


def _layer(lm, block):
    """`block` as one function for all layers, traced, optimized and kept in memory once.

    It takes x, [batch, sequence, features], the weights by their names within the layer, those that
    are learnt and those that are not, and what `block` shall be given besides; it gives what
    `block` gives.
    """

    @tf.function(autograph=False, experimental_attributes={'_noinline': True})
    def layer(x, learnt, frozen, more):
        leaves = learnt | {name: tf.stop_gradient(leaf) for name, leaf in frozen.items()}
        params = model.map_tree(lambda name, _: leaves[name], lm.params['h0'], '')
        return block(x, params, past=None, hparams=lm.hparams, **more)

    return layer


def loss_and_gradients(
    lm, trained, inputs, tokens, weights=None, starts=None, seed=None,
    *, block, dtype, recompute, scale=1.0, dropout_rate=0.0,
):  # fmt: skip
    """The loss, [], and a generator of the gradients: {name: gradient} for each part of the model.

    Args:
        trained: {name: variable}, which variables shall have gradients.
        inputs: [batch, sequence], what the model sees.
        tokens: the same, what it should say.
        weights: [batch, sequence - 1], as masks.loss_weights gives them; None for ones.
        starts: [batch, sequence], as masks.document_starts gives them; None for one text a window.
        seed: [2], of dropout; None for none.
        block: what computes a layer, as lean_block.lean_block gives it.
        dtype: of the last matrix product.
        recompute: whether layers are computed again instead of remembered.
        scale: what all gradients are multiplied by.
        dropout_rate: of the embeddings; `block` knows its own.
    """
    hparams, params, layer = lm.hparams, lm.params, _layer(lm, block)
    wte = tf.convert_to_tensor(params['wte'])
    seed_of_embeddings = dropout.seed_of(seed, hparams.n_layer)  # behind those of the layers

    def layer_function(number, attended=None):
        more = {'starts': starts, 'attended': attended, 'seed': dropout.seed_of(seed, number)}
        more = {name: value for name, value in more.items() if value is not None}
        path = f'model/h{number}'
        every = model.by_name(params[f'h{number}'], '')
        frozen = {name: leaf for name, leaf in every.items() if path + name not in trained}
        return lambda x, learnt: layer(x, learnt, frozen, more)

    def norm(x, learnt):
        g, b = (learnt.get(f'/{name}', params['ln_f'][name]) for name in 'gb')
        return model.norm(x, {'g': g, 'b': b}), None

    x = dropout.dropped(embedded(lm, inputs, starts), dropout_rate, seed_of_embeddings)
    remembered, backward_of = [], []  # each layer
    for i in range(hparams.n_layer):
        if recompute:
            before = x
            x, attended = layer_function(i)(before, _weights(f'h{i}', trained))
            remembered.append((before, attended))
        else:
            backward, x = _taped(layer_function(i), x, f'h{i}', trained)
            backward_of.append(backward)
    backward_of_norm, h = _taped(norm, x, 'ln_f', trained)
    weights = None if weights is None else tf.reshape(weights, [-1])
    with tf.GradientTape() as tape:
        tape.watch([h, wte])
        rows = fused_loss.ROWS  # or more, where that is faster and hardly takes more memory
        rows, slices = (2 * rows, 1) if dtype == tf.float32 else (rows, 1 if recompute else 4)
        loss = fused_loss.linear_cross_entropy(
            *aligned(h, tokens), wte, dtype, 'model/wte' in trained, scale, rows, slices, weights
        )
    dh, dwte = tape.gradient(loss, [h, wte])

    def gradients():
        dx, part = backward_of_norm(dh)
        yield from [part] if part else []
        for i in reversed(range(hparams.n_layer)):
            if recompute:
                with tf.control_dependencies([dx]):  # or it would be done at once and remembered
                    x, attended = tf.nest.map_structure(tf.identity, remembered[i])
                    function = layer_function(i, attended)
                backward, _ = _taped(function, x, f'h{i}', trained)
            else:
                backward = backward_of[i]
            dx, part = backward(dx)
            yield from [part] if part else []
        if 'model/wte' in trained:
            dx = dropout.dropped(dx, dropout_rate, seed_of_embeddings)
            yield _embedding_gradients(dx, inputs, starts, dwte, hparams.n_ctx)

    return loss, gradients()


def _weights(part, trained):
    """Of one part of the model, {name within it: tensor}."""
    path = f'model/{part}'
    return {
        name.removeprefix(path): tf.convert_to_tensor(variable)
        for name, variable in trained.items()
        if name.startswith(f'{path}/')
    }


def _taped(function, x, part, trained):  # -> a function from dy to dx and the gradients, and y
    weights = _weights(part, trained)
    with tf.GradientTape() as tape:
        tape.watch([x, weights])
        y, _ = function(x, weights)

    def backward(dy):
        dx, gradients = tape.gradient(y, [x, weights], dy)
        return dx, {f'model/{part}{name}': gradient for name, gradient in gradients.items()}

    return backward, y


def _embedding_gradients(dx, inputs, starts, dwte, n_ctx):
    # [batch, sequence, features], [batch, sequence]s, [vocab, features] -> {name: gradient}
    if starts is None:
        dwpe = tf.reduce_sum(dx, axis=0)  # [sequence, features]
        dwpe = tf.pad(dwpe, [[0, n_ctx - dwpe.shape[0]], [0, 0]])
    else:
        dwpe = tf.math.unsorted_segment_sum(dx, tf.range(dx.shape[1]) - starts, n_ctx)
    # Of all operations that add rows to a tensor, this one alone needs no copy of it.
    dwte = tf.raw_ops.InplaceAdd(
        x=dwte, i=tf.reshape(inputs, [-1]), v=tf.reshape(dx, [-1, dx.shape[-1]])
    )
    return {'model/wpe': dwpe, 'model/wte': dwte}
