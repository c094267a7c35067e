"""How much memory a run takes, and giving back what it no longer needs."""

import ctypes
import dataclasses
import os

from ..data import processes

RUNTIME = 700e6  # Python, TensorFlow, and what it makes of a layer: measured
GRAPH = 9e6  # for each layer more: measured
MORE = 0.07  # of all tensors, which they take beyond their sizes: measured
BYTES = {'float32': 4, 'bfloat16': 2, 'float16': 2}
# What each optimizer remembers for each weight; Adafactor's rows and columns are next to nothing.
# Muon remembers one number for each of the blocks' matrices.
SLOTS = {'adam': 2, 'adamw': 2, 'muon': 2, 'adafactor': 0.01, 'sgd': 0}
SLICE = 256  # tokens; fused_loss.ROWS and lean_attention.SLICE

# What is tried in turn when a run does not fit; each on top of those before it.
CHEAPER = [
    {'memory_saving_gradients': True},
    {'batch_size': 1},
    {'optimizer': 'adafactor'},
    {'dtype': 'bfloat16', 'lora_rank': 8},
    {'seq_length': 256},
]


def limit_malloc(all_of_it):
    """Let glibc return what is freed, which saves 60 to 110 MB; elsewhere this does nothing.

    Otherwise each of TensorFlow's threads keeps what it once needed for tracing and compiling.
    `all_of_it` costs 4 % of the time of a step, in page faults, for another 20 to 40 MB.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if os.name == 'posix' else None
    if mallopt:  # the numbers are those of malloc.h
        mallopt(-8, 1)  # M_ARENA_MAX
        mallopt(-3, 2**16 if all_of_it else 2**23)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**17 if all_of_it else 2**24)  # M_TRIM_THRESHOLD


def peak(hparams, config):
    """About the most bytes that a step takes, by what takes them: {what: bytes}.

    The largest of four moments is counted: in the loss, behind it, at the end of the backward pass,
    and where wte is changed.
    """
    width, layers, vocab = hparams.n_embd, hparams.n_layer, hparams.n_vocab
    window = min(config.seq_length, hparams.n_ctx)
    tokens, product = config.batch_size * window, BYTES[config.dtype]

    layer, embedding = 12 * width**2 + 13 * width, vocab * width  # weights
    weights = layers * layer + embedding + hparams.n_ctx * width + 2 * width
    matrices = layers * 12 * width**2
    trained, bytes_of_weights = weights, 4 * weights
    if config.lora_rank:
        trained = matrices = layers * 16 * width * config.lora_rank
        bytes_of_weights = product * weights + 4 * trained
    elif config.only_train_transformer_layers:
        trained = layers * layer
    of_embedding = 4 * embedding if trained == weights else 0  # bytes of gradients
    slots = SLOTS[config.optimizer] * trained - (matrices if config.optimizer == 'muon' else 0)
    gradients = of_embedding + 4 * trained // layers if config.updates_at_once else 4 * trained
    sums = 8 * trained if config.accumulate_gradients > 1 else 0

    # A layer remembers what goes into its five steps, of which two are float32.
    of_layer = tokens * width * (2 * 4 + 8 * product)
    if config.memory_saving_gradients:  # what comes in, and what attention gave
        remembered = layers * (4 + product) * tokens * width
    else:
        remembered = layers * of_layer
    squares = config.batch_size * hparams.n_head * min(window, SLICE) * window
    in_layer = 2 * of_layer + 2 * 4 * squares + 4 * layer
    # By rows and slices of backpropagation.
    kept = product if config.memory_saving_gradients and product < 4 else 8
    in_loss = min(SLICE, tokens) * vocab * (8 + kept) + of_embedding
    if config.dtype != 'float32':
        in_loss += product * embedding
    in_update = 3 * of_embedding if config.optimizer == 'adafactor' else 0  # not in place
    moments = [
        remembered + in_loss,
        remembered + of_embedding + in_layer,
        gradients + in_layer,
        gradients + in_update,
    ]
    tensors = {
        'weights': bytes_of_weights,
        'optimizer': 4 * slots,
        'gradients and activations': sums + max(moments),
    }
    more = MORE * sum(tensors.values())
    return {'TensorFlow': RUNTIME + layers * GRAPH + more, **tensors}


def report(hparams, config):
    """Lines that say what a run would take, and flags with which it would fit, if it would not."""
    parts, there = peak(hparams, config), processes.available_memory()
    lines = [f'{size / 1e9:7.2f} GB  {what}' for what, size in parts.items()]
    lines.append(
        f'{sum(parts.values()) / 1e9:7.2f} GB in all, about; there are {there / 1e9:.2f} GB'
    )
    if sum(parts.values()) <= there:
        return [*lines, 'This fits.']
    return [*lines, advice(hparams, config, there)]


def advice(hparams, config, there):
    """One line: the first of `CHEAPER` with which a run fits, each taken with those before it."""
    changes = {}
    for cheaper in CHEAPER:
        changes |= {n: value for n, value in cheaper.items() if value != getattr(config, n)}
        needed = sum(peak(hparams, dataclasses.replace(config, **changes)).values())
        if needed <= there:
            flags = ' '.join(f'--{n}' if v is True else f'--{n} {v}' for n, v in changes.items())
            return f'This does not fit; {needed / 1e9:.2f} GB, which do, are enough with {flags}'
    return 'This does not fit, whatever the flags; a smaller model may'
