"""GPT-2, as in OpenAI's model.py: pure functions over a tree of parameters.

The tree's paths are the checkpoint's variable names: params['h0']['attn']['c_attn']['w'] is
model/h0/attn/c_attn/w. Where OpenAI's functions took the name of a scope, these take its subtree.

Axes: batch, sequence, features (n_embd), heads, vocab; dst and src for the two sequences of
attention; past for the tokens that came before; layer; 2 for key and value.
"""

import dataclasses
import math
import typing

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(unsafe_hash=True)  # a tf.function may be called with it
class HParams:
    """The sizes of a model, as hparams.json names them."""

    n_vocab: int = 0
    n_ctx: int = 1024
    n_embd: int = 768
    n_head: int = 12
    n_layer: int = 12

    def override_from_dict(self, values):
        """Set the fields that `values` names.

        Raises ValueError: a name that is not a field, a size that is not a whole number above 0,
        or a width that the heads cannot share equally.
        """
        for name, value in values.items():
            if name not in self.__dict__:
                raise ValueError(f'there is no size {name!r}; there are {", ".join(self.__dict__)}')
            if type(value) is not int or value < 1:
                raise ValueError(f'{name} is {value!r:.99}; it must be a whole number above 0')
            setattr(self, name, value)
        if self.n_embd % self.n_head:
            raise ValueError(f'n_embd {self.n_embd} is not a multiple of n_head {self.n_head}')


def default_hparams():
    return HParams()


def shape_list(x):
    """The shape of x: a number where it is known while tracing, else a tensor."""
    return [tf.shape(x)[i] if size is None else size for i, size in enumerate(x.shape)]


def gelu(x):  # Hendrycks and Gimpel 2016, the approximation with tanh
    return 0.5 * x * (1 + tf.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


def norm(x, params, *, axis=-1, epsilon=1e-5):  # [..., features] -> [..., features]
    """Normalize to mean = 0, std = 1, then do a diagonal affine transform."""
    u = tf.reduce_mean(x, axis=axis, keepdims=True)
    s = tf.reduce_mean(tf.square(x - u), axis=axis, keepdims=True)
    return (x - u) * tf.math.rsqrt(s + epsilon) * params['g'] + params['b']


def product(x, w_t):  # [rows, nx], [nf, nx] -> [rows, nf]
    """x w_tᵀ in the type of w_t; of few rows as parts of w_t times xᵀ, which read it as it lies.

    XLA would turn a single product around, and leave that of a single row to one core.
    """
    (rows, nx), nf, x = x.shape, w_t.shape[0], tf.cast(x, w_t.dtype)
    parts = [n for n in range(2, 33) if nf % n == 0]
    if not parts or rows is None or rows > 64:  # to multiply takes longer than to read w_t
        return tf.transpose(tf.matmul(w_t, x, transpose_b=True))
    n = parts[-1 if rows == 1 else 0]
    w_t, x_t = tf.reshape(w_t, [n, nf // n, nx]), tf.broadcast_to(tf.transpose(x), [n, nx, rows])
    return tf.transpose(tf.reshape(tf.matmul(w_t, x_t), [nf, rows]))


def conv1d(x, params):  # [batch, sequence, nx] -> [batch, sequence, nf]
    """A linear layer; OpenAI stores `w` as a convolution of width one, [1, nx, nf]."""
    (*start, nx), nf = shape_list(x), params['b'].shape[0]
    rows = tf.reshape(x, [-1, nx])
    if 'w_t' in params:  # [nf, nx], in a model that is loaded to sample
        c = product(rows, params['w_t'])
    elif rows.shape[0] == 1:  # the sum of parts, since XLA would leave it to one core
        n = math.gcd(nx, 8)
        w = tf.reshape(params['w'], [n, nx // n, nf])
        c = tf.reduce_sum(tf.matmul(tf.cast(tf.reshape(rows, [n, 1, -1]), w.dtype), w), axis=0)
    else:
        c = tf.matmul(tf.cast(rows, params['w'].dtype), tf.reshape(params['w'], [nx, nf]))
    return tf.reshape(tf.nn.bias_add(tf.cast(c, x.dtype), params['b']), [*start, nf])


def split_heads(x, n_head):  # [batch, sequence, nx] -> [batch, heads, sequence, nx / heads]
    *start, nx = shape_list(x)
    return tf.transpose(tf.reshape(x, [*start, n_head, nx // n_head]), [0, 2, 1, 3])


def merge_heads(x):  # [batch, heads, sequence, nx / heads] -> [batch, sequence, nx]
    batch, heads, sequence, features = shape_list(x)
    return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch, sequence, heads * features])


def attention_mask(nd, ns, past_length, *, dtype):  # -> [1 or batch, 1, dst, src]
    """1's where a dst may look: at the past, one for all or each row's own, and up to itself."""
    i = tf.range(nd)[:, None] + tf.reshape(past_length, [-1, 1, 1, 1])
    j = tf.range(ns)
    return tf.cast(i >= j, dtype)


def multihead_attn(q, k, v, past_length):
    # q [batch, heads, dst, features], k and v [batch, heads, src, features] -> as q
    w = tf.matmul(q, k, transpose_b=True)  # [batch, heads, dst, src]
    w = w * tf.math.rsqrt(tf.cast(v.shape[-1], w.dtype))
    b = attention_mask(shape_list(q)[-2], shape_list(k)[-2], past_length, dtype=w.dtype)
    w = w * b - tf.cast(1e10, w.dtype) * (1 - b)
    return tf.matmul(tf.nn.softmax(w), v)


class Cache(typing.NamedTuple):
    """The past of one layer in tensors that do not grow, so that each step has the same shapes."""

    k: tf.Tensor  # [batch, heads, window, features]; what lies at `length` and behind is unused
    v: tf.Tensor  # the same
    length: tf.Tensor  # [batch] int32, since rows may have begun with prompts of different lengths

    def extended(self, k, v):
        """The cache with some more keys and values, [batch, heads, sequence, features]."""
        batch, heads, sequence, _ = k.shape
        row, head, new = tf.meshgrid(*map(tf.range, (batch, heads, sequence)), indexing='ij')
        at = tf.stack([row, head, new + self.length[:, None, None]], axis=-1)
        k, v = (tf.tensor_scatter_nd_update(c, at, x) for c, x in ((self.k, k), (self.v, v)))
        return Cache(k, v, self.length + sequence)

    def widened(self, window):
        """The cache with room for `window` tokens."""
        more = [[0, 0], [0, 0], [0, window - self.k.shape[-2]], [0, 0]]
        return self._replace(k=tf.pad(self.k, more), v=tf.pad(self.v, more))


def attn(x, params, *, past, hparams):
    # x [batch, sequence, features], past [batch, 2, heads, past, features / heads], a Cache or None
    # -> x's shape, and the present: what this call adds to the past, or the whole new Cache
    c = conv1d(x, params['c_attn'])
    q, k, v = (split_heads(part, hparams.n_head) for part in tf.split(c, 3, axis=2))
    if isinstance(past, Cache):
        present = past.extended(k, v)
        a = multihead_attn(q, present.k, present.v, past.length)
    else:
        present = tf.stack([k, v], axis=1)
        if past is not None:
            k, v = tf.unstack(tf.concat([past, present], axis=-2), axis=1)
        a = multihead_attn(q, k, v, shape_list(k)[-2] - shape_list(q)[-2])
    return conv1d(merge_heads(a), params['c_proj']), present


def mlp(x, params):  # [batch, sequence, features] -> the same
    return conv1d(gelu(conv1d(x, params['c_fc'])), params['c_proj'])


def block(x, params, *, past, hparams):  # shapes as in attn
    a, present = attn(norm(x, params['ln_1']), params['attn'], past=past, hparams=hparams)
    x = x + a
    m = mlp(norm(x, params['ln_2']), params['mlp'])
    return x + m, present


def past_shape(*, hparams, batch_size=None, sequence=None):
    features = hparams.n_embd // hparams.n_head
    return [batch_size, hparams.n_layer, 2, hparams.n_head, sequence, features]


def empty_cache(*, hparams, batch_size, window):
    """A past for `window` tokens that holds none yet: a Cache for each layer."""
    *_, heads, window, features = past_shape(hparams=hparams, sequence=window)
    empty = tf.zeros([batch_size, heads, window, features])
    return [Cache(empty, empty, tf.zeros([batch_size], tf.int32)) for _ in range(hparams.n_layer)]


def embed(params, X, past_length=0):  # [batch, sequence] -> [batch, sequence, features]
    """What each token is, plus where it stands."""
    positions = past_length + tf.range(shape_list(X)[1])  # [sequence] or [batch, sequence]
    # Read first: a variable that is gathered from is copied at every later read, wte's 154 MB.
    wte, wpe = tf.convert_to_tensor(params['wte']), tf.convert_to_tensor(params['wpe'])
    return tf.cast(tf.gather(wte, X) + tf.gather(wpe, positions), tf.float32)


def transformer(hparams, params, X, past=None, *, block=block):
    """The features that predict the token after each token of X, and the presents of the layers.

    Args:
        X: [batch, sequence] int32.
        past: None; or what came before, in the shape of past_shape; or a list of Caches.
        block: what computes a block, where it is not `block` itself: see lean_block.

    Returns [batch, sequence, features], and what `block` returned as present for each layer.
    """
    if past is None:
        past_length, pasts = 0, [None] * hparams.n_layer
    elif isinstance(past, list):
        past_length, pasts = past[0].length[:, None], past
    else:
        past_length, pasts = shape_list(past)[-2], tf.unstack(past, axis=1)
    h, presents = embed(params, X, past_length), []
    for layer, past in enumerate(pasts):
        h, present = block(h, params[f'h{layer}'], past=past, hparams=hparams)
        presents.append(present)
    return norm(h, params['ln_f']), presents


def logits_of(h, params):  # [..., features] -> [..., vocab]
    *start, nx = shape_list(h)
    logits = product(tf.reshape(h, [-1, nx]), params['wte'])
    return tf.reshape(tf.cast(logits, tf.float32), [*start, params['wte'].shape[0]])


def model(hparams, params, X, past=None, *, block=block):
    """The whole of it: transformer, whose arguments these are, then logits.

    Returns a dict:
        logits: [batch, sequence, vocab], for the token after each token of X.
        present: the keys and values of X in the shape of past_shape, to be appended to the past
            along axis -2; or, where the past was Caches, the Caches that hold X as well.
    """
    h, presents = transformer(hparams, params, X, past, block=block)
    present = presents if isinstance(past, list) else tf.stack(presents, axis=1)
    return {'present': present, 'logits': logits_of(h, params)}


def lm_loss(logits, tokens):  # [batch, sequence, vocab], [batch, sequence] -> []
    """Mean cross-entropy, in nats: do tokens <n predict token n?"""
    labels, logits = tokens[:, 1:], logits[:, :-1]
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def parameter_shapes(hparams, transposed=False):
    """The tree of parameters, with a shape at each leaf, in OpenAI's order; see conv1d for w_t."""
    nx = hparams.n_embd
    affine = {'g': [nx], 'b': [nx]}

    def linear(nx, nf):
        return {**({'w_t': [nf, nx]} if transposed else {'w': [1, nx, nf]}), 'b': [nf]}

    layer = {
        'ln_1': affine,
        'attn': {'c_attn': linear(nx, 3 * nx), 'c_proj': linear(nx, nx)},
        'ln_2': affine,
        'mlp': {'c_fc': linear(nx, 4 * nx), 'c_proj': linear(4 * nx, nx)},
    }
    return {
        'wpe': [hparams.n_ctx, nx],
        'wte': [hparams.n_vocab, nx],
        **{f'h{i}': layer for i in range(hparams.n_layer)},
        'ln_f': affine,
    }


def map_tree(function, tree, name='model'):
    """The tree with `function(name, leaf)` at each leaf; the name is the checkpoint's."""
    if not isinstance(tree, dict):
        return function(name, tree)
    return {key: map_tree(function, branch, f'{name}/{key}') for key, branch in tree.items()}


def by_name(tree, name='model'):
    """The leaves of a tree under the checkpoint's names: {'model/wpe': …, 'model/wte': …, …}."""
    leaves = {}
    map_tree(leaves.__setitem__, tree, name)
    return leaves


def init_params(hparams, seed=None, variable=tf.Variable):
    """OpenAI's initialisation: N(0, 0.02), wpe N(0, 0.01). `variable(value, name=…)` makes each."""
    random = np.random.default_rng(seed)

    def initial(name, shape):
        leaf = name.rpartition('/')[2]
        if leaf in ('g', 'b'):
            value = np.full(shape, 1 if leaf == 'g' else 0, np.float32)
        else:
            stddev = 0.01 if leaf == 'wpe' else 0.02
            value = random.standard_normal(shape, np.float32) * np.float32(stddev)
        return variable(value, name=name)

    return map_tree(initial, parameter_shapes(hparams))


class GPT2(tf.Module):
    """The model with its variables; no mathematics lives here."""

    def __init__(self, hparams, params):
        super().__init__()
        self.hparams, self.params = hparams, params

    def __call__(self, X, past=None):
        # In a graph, the operations of a layer are traced once for all of them.
        once = block if tf.executing_eagerly() else tf.function(block, autograph=False)
        return model(self.hparams, self.params, X, past, block=once)

    def empty_cache(self, batch_size, window):
        return empty_cache(hparams=self.hparams, batch_size=batch_size, window=window)
