"""The weights of a .tflite as its graph takes them, made of a checkpoint's one by one.

Matrices lie as XNNPACK reads them, [out, in]. What a layer norm does to its output is a part of the
linear layer behind it,

    (x * g + b) @ w + c  =  x @ (g * w) + (b @ w + c)

and so is what attention divides the queries by. In int8 a matrix is rounded to 8 bits with a scale
for each output, in the very way in which TensorFlow's converter does.
"""

import re

import numpy as np

from .. import model

BEHIND_NORM = {'attn/c_attn': 'ln_1', 'mlp/c_fc': 'ln_2'}


def shapes(hparams):
    """{name in the checkpoint: shape in the file}."""
    found = model.by_name(model.parameter_shapes(hparams)).items()
    found = {name: shape for name, shape in found if not re.search(r'/ln_[12]/', name)}
    return {name: shape[:0:-1] if len(shape) == 3 else shape for name, shape in found.items()}


def made(name, hparams, read):
    """The weights `name` for the file; read(name) gives those of a checkpoint, both in float32.

    Raises ValueError: products that float32 cannot hold.
    """
    match = re.fullmatch(r'(model/h\d+)/(attn/c_attn|mlp/c_fc)/([wb])', name)
    if not match:
        weights = read(name)
        return np.ascontiguousarray(weights[0].T) if weights.ndim == 3 else weights
    layer, linear, leaf = match.groups()
    norm, w = f'{layer}/{BEHIND_NORM[linear]}', read(f'{layer}/{linear}/w')[0]  # [in, out]
    with np.errstate(over='ignore', invalid='ignore'):
        if leaf == 'w':
            weights = np.ascontiguousarray((w * read(f'{norm}/g')[:, None]).T)
        else:
            weights = read(name) + read(f'{norm}/b') @ w
    if not np.isfinite(weights).all():
        raise ValueError(f'{name} and {norm} are too large for float32; their training diverged')
    if linear == 'attn/c_attn':
        weights[: hparams.n_embd] *= np.float32((hparams.n_embd / hparams.n_head) ** -0.5)
    return weights


def is_rounded(name, shape, dtype):
    """Whether a matrix is in int8; that of the positions is too fine for one."""
    return dtype == 'int8' and len(shape) == 2 and name != 'model/wpe'


def rounded(matrix):  # [out, in] -> int8 of the same shape, float32 [out]
    """(values, scales): 8 bits with a scale for each row, a part of the rows at a time."""
    values = np.empty(matrix.shape, np.int8)
    scales = np.empty(len(matrix), np.float32)
    for i in range(0, len(matrix), 1024):
        part = matrix[i : i + 1024].astype(np.float64)
        scale = np.max(np.abs(part), axis=1) / 127
        scale[scale == 0] = 1
        values[i : i + 1024], scales[i : i + 1024] = np.round(part / scale[:, None]), scale
    return values, scales
