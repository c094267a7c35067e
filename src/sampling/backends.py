"""What computes the logits: TensorFlow, from a checkpoint; or LiteRT, from what export.py wrote."""

import contextlib
import functools
import importlib.util
import math
import sys

import numpy as np

from ..command_line import invocation, quiet
from ..data import processes
from ..model_files import model_directory
from . import litert, litert_slots, sample_numpy

ENGINES = ('auto', 'tensorflow', 'litert')
DTYPES = ('float32', 'bfloat16', 'float16', 'int8')


def load(directory, adapters=None, engine='auto', dtype=None, prefix=None):
    """The model in a directory: a model.GPT2, or a litert.LiteRT. See `loading`."""
    return loading(directory, adapters, engine, dtype, prefix)()


def loading(directory, adapters=None, engine='auto', dtype=None, prefix=None):
    """A function that loads the model in a directory, after what can be refused before.

    Says on stderr from which file: a model.GPT2, or a litert.LiteRT.

    Args:
        adapters: the path of a model-N.adapters.npz, or None.
        engine: 'tensorflow', 'litert', or 'auto': LiteRT where there is a .tflite that is not
            older than the checkpoint, and the package that runs it.
        dtype: of the weights; 'int8' is LiteRT's, 'bfloat16' and 'float16' are TensorFlow's. None
            is float32, or int8 where the only .tflite is of this.
        prefix: of the checkpoint, where it is not the latest.

    Raises:
        ValueError: no such engine, nothing that it could run, or a damaged file.
        OSError: a file cannot be read.
    """
    _require('engine', engine, ENGINES)
    _require('dtype', dtype, (None, *DTYPES))
    prefix = prefix or model_directory.latest(directory)
    path = None if adapters or engine == 'tensorflow' else _tflite(prefix, dtype)
    if engine == 'auto' and path and not importlib.util.find_spec('ai_edge_litert'):
        print(f'{path} needs a package: {litert.INSTALLATION}', file=sys.stderr)
        path = None
    if path:
        print('Loading', path, file=sys.stderr)
        return functools.partial(_litert, directory, path)
    if engine == 'litert' or dtype == 'int8':
        raise ValueError(_nothing_for_litert(directory, prefix, adapters, engine, dtype))
    print('Loading checkpoint', prefix, file=sys.stderr)
    return functools.partial(_tensorflow, directory, prefix, adapters, dtype or 'float32')


def _litert(directory, path):
    lm = litert.LiteRT(path)
    require_sizes(directory, path, lm.hparams)
    return lm


def _require(name, value, allowed):
    if value not in allowed:
        known = ', '.join(each for each in allowed if each)
        raise ValueError(f'{name} is {value!r}; it must be one of {known}')


def require_sizes(directory, path, hparams):
    """Raise ValueError where a .tflite is of another model than the hparams.json beside it."""
    told = model_directory.sizes(directory)
    for name, size in vars(hparams).items():
        if told.get(name, size) != size:
            command = f'{invocation.command("export")} --model_name {directory}'
            raise ValueError(
                f'{path} is of another model: its {name} is {size}, and by hparams.json it is '
                f'{told[name]}. Make it anew: {command}'
            )


def _tflite(prefix, dtype):
    """The path of the first .tflite of that dtype, or of any for None, that is up to date."""
    paths = (litert.current(prefix, each) for each in litert.DTYPES if dtype in (None, each))
    return next(filter(None, paths), None)


def _nothing_for_litert(directory, prefix, adapters, engine, dtype):
    if adapters:
        return 'Adapters are for the engine tensorflow, in float32, bfloat16 or float16'
    if engine == 'tensorflow' or dtype not in (None, *litert.DTYPES):
        allowed = ', '.join(litert.DTYPES if engine == 'litert' else DTYPES[:3])
        return f'The engine {engine} has no {dtype}; it has {allowed}'
    command = f'{invocation.command("export")} --model_name {directory}'
    dtype = dtype or 'float32'
    return f'{prefix} has no .tflite that is up to date. Make it: {command} --dtype {dtype}'


def _tensorflow(directory, prefix, adapters, dtype):
    quiet.import_tensorflow()  # here, because it takes longer than everything else
    import tensorflow as tf

    from .. import model
    from ..gradients import lora
    from ..model_files import checkpoint

    hparams = checkpoint.read_hparams(directory)
    variable = tf.Variable if dtype == 'float32' else lora.frozen(tf.dtypes.as_dtype(dtype))
    params = checkpoint.load(prefix, hparams, variable, transposed=True)
    require_finite(prefix, model.by_name(params))
    if adapters:
        lora.merge_into(params, adapters)
    return model.GPT2(hparams, params)


def require_finite(prefix, tensors):
    """Raise ValueError where a weight is NaN or infinite, in {name: tensor}."""
    import tensorflow as tf

    for name, weights in tensors.items():
        if not tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(weights))):
            raise ValueError(
                f'{prefix}: {name.removesuffix("_t")} has weights that are no finite numbers; they '
                f'are damaged, or their training diverged. Take another checkpoint: --model_name '
                f'…/model-N'
            )


def require_tensorflow(lm, option):
    """Raise ValueError where a model is LiteRT's, which cannot do what is wanted of it."""
    if isinstance(lm, litert.LiteRT):
        raise ValueError(f'{option} is for the engine tensorflow; load the model with that')


@contextlib.contextmanager
def enough_memory():
    """Where there is not, the error is a ValueError that says what to lower."""
    errors = [MemoryError]
    if 'tensorflow' in sys.modules:
        errors.append(sys.modules['tensorflow'].errors.ResourceExhaustedError)
    try:
        yield
    except tuple(errors):
        raise ValueError(
            'The memory is not enough for this; lower --batch_size, --length or --num_beams, or '
            'take weights of --dtype bfloat16'
        ) from None


def require_room(lm, batch_size, tokens):
    """Raise ValueError where the pasts of so many texts of so many tokens do not fit in memory."""
    tokens = min(tokens, lm.hparams.n_ctx)
    if isinstance(lm, litert.LiteRT):
        numbers = sum(map(math.prod, lm.graph.past.values()))  # of a token
    else:
        numbers = 2 * lm.hparams.n_layer * lm.hparams.n_embd
    needed, there = batch_size * tokens * 4 * numbers, processes.available_memory()
    if needed > there:
        raise ValueError(
            f'{batch_size} texts of {tokens} tokens at once need {needed / 1e9:.1f} GB, and there '
            f'are {there / 1e9:.1f}; lower --batch_size or --length'
        )


@enough_memory()
def rows(lm, contexts, length, uniforms, *, controls=None, **options):
    """The sample.Rows of a model, or the sample_numpy.Rows where it is LiteRT's."""
    require_room(lm, len(contexts), int(np.max(np.add([len(ids) for ids in contexts], length))))
    if isinstance(lm, litert.LiteRT):
        if len(contexts) > 1:
            options['slots'] = litert_slots.of(lm, len(contexts))
        return sample_numpy.Rows(lm, contexts, length, uniforms, controls=controls, **options)
    from .. import sample
    from . import controls as in_graph

    if controls:
        controls = in_graph.Controls(*controls)
    return sample.Rows(lm, contexts, length, uniforms, controls=controls, **options)


def compile_for_first_text(lm, batch_size, **options):
    """Let TensorFlow compile what `rows` of that many short prompts need for their first tokens.

    Says nothing of logits that are no numbers, or of too little memory: the first text will.
    """
    with contextlib.suppress(ValueError), enough_memory():
        rows(lm, [[0, 0]] * batch_size, 1, [[0.0]] * batch_size, **options).grow(1)
