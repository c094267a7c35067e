"""model.model as LiteRT runs it best: rows of tokens, and pasts that the caller keeps.

A step takes the past as it lies in memory and gives back only what it adds, so that nothing as
large as the past is ever copied. Shapes are known but for n, the tokens of a step, window, the
room for the past, and m, how many logits are wanted; none is asked for in the graph, since whatever
depends on such a question would run outside of XNNPACK. litert.py names inputs, outputs and axes.
"""

import numpy as np
import tensorflow as tf

from . import litert_weights


def normalized(x, epsilon=1e-5):  # [n, features] -> [n, features]
    """model.norm without its g and b, which litert_weights has in the next weights."""
    x = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), axis=-1, keepdims=True) + epsilon)


def split_heads(x, n_head):  # [n, nx] -> [heads, n, nx / heads]
    return tf.transpose(tf.reshape(x, [-1, n_head, x.shape[-1] // n_head]), [1, 0, 2])


def merge_heads(x):  # [heads, n, features] -> [n, heads * features]
    heads, _, features = x.shape
    return tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, heads * features])


def attend(q, k, v, past_k, past_v, mask_new, mask_past):
    # q, k and v [heads, n, features], past_k and past_v [heads, window, features] -> as q
    """Attention to past and new tokens, one softmax over both: their exponentials are summed."""
    old = tf.matmul(q, past_k, transpose_b=True) + mask_past  # [heads, n, window]
    new = tf.matmul(q, k, transpose_b=True) + mask_new  # [heads, n, n]
    largest = tf.maximum(_along_src(tf.reduce_max, old), _along_src(tf.reduce_max, new))
    old, new = tf.exp(old - largest), tf.exp(new - largest)
    total = _along_src(tf.reduce_sum, old) + _along_src(tf.reduce_sum, new)
    return (tf.matmul(old, past_v) + tf.matmul(new, v)) / total


def _along_src(reduce, w):  # [heads, dst, src] -> [heads, dst, 1]
    return reduce(w, axis=-1, keepdims=True)


class Rows(tf.Module):
    """A matrix of which some rows are read, bit by bit as it was given.

    The converter to int8 would round a float32 matrix that is gathered from, all of it to one
    scale, which is too coarse for positions.
    """

    def __init__(self, matrix):
        super().__init__()
        self.bits = tf.Variable(np.asarray(matrix, np.float32).view(np.int32), trainable=False)

    def __call__(self, i):  # [n] -> [n, ...]
        return tf.bitcast(tf.gather(self.bits, i), tf.float32)


class RowsOfInt8(tf.Module):
    """The same, rounded to 8 bits with a scale for each row.

    The converter rounds the matrix in this very way for the logits, and keeps one of two equals.
    """

    def __init__(self, matrix):
        super().__init__()
        rounded, scale = litert_weights.rounded(matrix)
        self.rounded, self.scale = tf.Variable(rounded, trainable=False), Rows(scale[:, None])

    def __call__(self, i):  # [n] -> [n, features]
        return tf.cast(tf.gather(self.rounded, i), tf.float32) * self.scale(i)


class Step(tf.Module):
    """What litert.LiteRT runs, with weights as litert_weights has them: {name: array}."""

    def __init__(self, hparams, weights, dtype):
        super().__init__()
        self.hparams = hparams
        self.weights = {name: tf.Variable(array) for name, array in weights.items()}
        self.token, self.position = {
            'float32': lambda: (self._wte, self._wpe),
            'int8': lambda: (RowsOfInt8(weights['model/wte']), Rows(weights['model/wpe'])),
        }[dtype]()

    def _wte(self, i):
        return tf.gather(self.weights['model/wte'], i)

    def _wpe(self, i):
        return tf.gather(self.weights['model/wpe'], i)

    def linear(self, x, name):  # [n, nx] -> [n, nf]
        w, b = self.weights[f'model/{name}/w'], self.weights[f'model/{name}/b']
        return tf.matmul(x, w, transpose_b=True) + b

    def block(self, x, layer, *past):  # [n, features] -> the same, and the new keys and values
        c = self.linear(normalized(x), f'{layer}/attn/c_attn')
        q, k, v = (split_heads(part, self.hparams.n_head) for part in tf.split(c, 3, axis=-1))
        x = x + self.linear(merge_heads(attend(q, k, v, *past)), f'{layer}/attn/c_proj')
        h = self.linear(normalized(x), f'{layer}/mlp/c_fc')
        # TensorFlow's own gelu, the same formula, becomes one operation.
        return x + self.linear(tf.nn.gelu(h, approximate=True), f'{layer}/mlp/c_proj'), k, v

    def inputs(self):
        """{name: its tf.TensorSpec}; None where n, m or window stands."""
        specs = {
            'tokens': [[None], tf.int32],
            'positions': [[None], tf.int32],
            'last': [[None, None]],
            'mask_past': [[None, None]],
            'mask_new': [[None, None]],
        }
        past = [self.hparams.n_head, None, self.hparams.n_embd // self.hparams.n_head]
        for layer in range(self.hparams.n_layer):
            specs |= {f'k{layer}': [past], f'v{layer}': [past]}
        return {name: tf.TensorSpec(*spec, name=name) for name, spec in specs.items()}

    @tf.function(autograph=False)
    def __call__(self, tokens, positions, last, mask_past, mask_new, **past):
        x = self.token(tokens) + self.position(positions)
        outputs = {'n_ctx': tf.constant(self.hparams.n_ctx)}
        for i in range(self.hparams.n_layer):
            x, k, v = self.block(x, f'h{i}', past[f'k{i}'], past[f'v{i}'], mask_new, mask_past)
            outputs |= {f'new_k{i}': k, f'new_v{i}': v}
        x = normalized(tf.matmul(last, x)) * self.weights['model/ln_f/g']  # [m, features]
        x = x + self.weights['model/ln_f/b']
        return {**outputs, 'logits': tf.matmul(x, self.weights['model/wte'], transpose_b=True)}

    def signature(self):
        return self.__call__.get_concrete_function(**self.inputs())
