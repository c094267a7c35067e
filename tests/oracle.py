"""GPT-2 again in NumPy, sharing nothing with src/: what src/model.py is compared with.

The paths of the parameter tree are the checkpoint's variable names without the leading 'model/'.
All is computed in the type of the parameters: a float64 tree gives float64 logits.
"""

import numpy as np


def norm(x, params):  # [..., features] -> the same
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return params['g'] * centred / np.sqrt(variance + 1e-5) + params['b']


def linear(x, params):  # [..., in] -> [..., out]
    w = params['w'][0] if 'w' in params else params['w_t'].T  # of a model that was loaded to sample
    return x @ w + params['b']


def gelu(x):
    return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(x, params, heads, past):  # past [batch, 2, heads, past, features] or None
    batch, sequence, width = x.shape
    parts = linear(x, params['c_attn']).reshape(batch, sequence, 3, heads, width // heads)
    query, *present = parts.transpose(2, 0, 3, 1, 4)  # each [batch, heads, sequence, features]
    present = np.stack(present, axis=1)
    all_seen = present if past is None else np.concatenate([past, present], axis=-2)
    key, value = all_seen[:, 0], all_seen[:, 1]
    scores = query @ key.swapaxes(-1, -2) / (width // heads) ** 0.5  # [batch, heads, dst, src]
    future = np.triu(np.ones_like(scores, bool), 1 + scores.shape[-1] - sequence)
    mixed = softmax(np.where(future, -np.inf, scores)) @ value
    return linear(mixed.swapaxes(1, 2).reshape(x.shape), params['c_proj']), present


def model(hparams, params, tokens, past=None):
    """logits [batch, sequence, vocab]; present [batch, layer, 2, heads, sequence, features]."""
    start = 0 if past is None else past.shape[-2]
    x = params['wte'][tokens] + params['wpe'][start : start + tokens.shape[1]]
    presents = []
    for i in range(hparams.n_layer):
        h, layer_past = params[f'h{i}'], None if past is None else past[:, i]
        a, present = attention(norm(x, h['ln_1']), h['attn'], hparams.n_head, layer_past)
        x = x + a
        x = x + linear(gelu(linear(norm(x, h['ln_2']), h['mlp']['c_fc'])), h['mlp']['c_proj'])
        presents.append(present)
    return {'logits': norm(x, params['ln_f']) @ params['wte'].T, 'present': np.stack(presents, 1)}


def loss(logits, tokens):
    """Mean cross-entropy in nats of each token but the first, given those before it."""
    chosen = np.take_along_axis(softmax(logits[:, :-1]), tokens[:, 1:, None], axis=-1)
    return -np.log(chosen).mean()


def numpy_tree(lm, dtype=np.float64):
    """The parameters of a model of src/model.py."""

    def leaf(branch):
        if isinstance(branch, dict):
            return {name: leaf(child) for name, child in branch.items()}
        return branch.numpy().astype(dtype)

    return leaf(lm.params)


def brute_force(lm, chunk, window, stride):
    """-log p of chunk[1:], each from a call of its own."""
    params, costs = numpy_tree(lm), []
    for i in range(1, len(chunk)):
        if i < window:  # in the first window
            begin = 0
        else:
            end = min(len(chunk), window + stride * -(-(i + 1 - window) // stride))
            begin = end - window
        logits = model(lm.hparams, params, np.array([chunk[begin:i]]))['logits'][0, -1]
        costs.append(-np.log(softmax(logits)[chunk[i]]))
    return costs
