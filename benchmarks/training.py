"""Seconds and memory of a training step of the 124M shape, beside nanoGPT's, measured in one run.

    python benchmarks/training.py nanoGPT [BATCH…]  # a checkout of github.com/karpathy/nanoGPT

Random weights and tokens, batches of 1 x 1024 and of 4 x 256; or those that are named, among them
long windows of a small model, and one of 774M with Adafactor. Each system runs in processes of its
own, so that the peak memory is its own, and takes turns with the others. Ours does by default what
Shepperd's does, Adam alone; nanoGPT also clips gradients and lets weights decay. Both are measured
both ways. See README.md.
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

SHAPE = {'n_vocab': 50257, 'n_ctx': 1024, 'n_embd': 768, 'n_head': 12, 'n_layer': 12}  # 124M
LARGE = {'n_vocab': 50257, 'n_ctx': 1024, 'n_embd': 1280, 'n_head': 20, 'n_layer': 36}  # 774M
LONG = {'n_vocab': 1024, 'n_ctx': 8192, 'n_embd': 256, 'n_head': 4, 'n_layer': 4}
BATCHES = {
    '1x1024': (SHAPE, 1, 1024), '4x256': (SHAPE, 4, 256),
    'long1024': (LONG, 1, 1024), 'long4096': (LONG, 1, 4096), 'long8192': (LONG, 1, 8192),
    '774M': (LARGE, 1, 1024),
}  # fmt: skip
LEARNING_RATE = 2e-5
CHECKOUT = sys.argv[1] if len(sys.argv) > 1 else ''
ROUNDS, WARM_UP, STEPS = 2, 2, 4  # processes for each system; steps in each, before and with clock


def tokens(batch):  # -> [batch, window]
    shape, *size = BATCHES[batch]
    return np.random.default_rng(0).integers(0, shape['n_vocab'], size)


# Each system is a function that gives back another: one training step, from nothing to its loss.


def ours(batch, **flags):
    from src.command_line import quiet

    quiet.import_tensorflow()
    import tensorflow as tf

    from src import model
    from src.training import memory, train_config, train_step

    memory.limit_malloc('memory_saving_gradients' in flags)
    hparams = model.default_hparams()
    shape, batch_size, window = BATCHES[batch]
    hparams.override_from_dict(shape)
    config = train_config.TrainConfig(
        dataset='', learning_rate=LEARNING_RATE, seed=0, batch_size=batch_size, seq_length=window,
        **flags,
    )  # fmt: skip
    lm = model.GPT2(hparams, model.init_params(hparams, seed=0))
    state = train_step.TrainState(lm, config, list(tokens(batch).astype(np.uint16)))
    compiled = train_step.compiled(state, config, window)
    batches = tf.constant(tokens(batch)[None], tf.int32)  # [1 to accumulate, batch, window]
    return lambda: float(compiled(batches, LEARNING_RATE)[0])


def ours_memory_saving(batch):
    return ours(batch, memory_saving_gradients=True)


def ours_bfloat16(batch):
    return ours(batch, dtype='bfloat16')


def ours_as_nanogpt(batch, **flags):
    return ours(
        batch, optimizer='adamw', weight_decay=0.1, adam_beta2=0.95, clip_gradients=1.0, **flags
    )


def ours_as_nanogpt_bfloat16(batch):
    return ours_as_nanogpt(batch, dtype='bfloat16')


def ours_adafactor(batch):
    return ours(batch, optimizer='adafactor')


def nanogpt(batch, dtype='float32', compile=False, bare=False, adafactor=False):
    """The model of nanoGPT in the step of its train.py.

    Args:
        bare: nothing but Adam, as ours by default: no clipping, no decay, and the fused update that
            nanoGPT takes on GPUs alone.
        adafactor: PyTorch's Adafactor alone.
    """
    import torch

    sys.path.insert(0, CHECKOUT)
    from model import GPT, GPTConfig

    torch.manual_seed(0)
    shape = BATCHES[batch][0]
    sizes = {name: shape[name] for name in ('n_layer', 'n_head', 'n_embd')}
    gpt = GPT(GPTConfig(block_size=shape['n_ctx'], vocab_size=shape['n_vocab'], bias=True, **sizes))
    if adafactor:
        optimizer = torch.optim.Adafactor(gpt.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    elif bare:
        optimizer = torch.optim.Adam(gpt.parameters(), lr=LEARNING_RATE, fused=True)
    else:
        optimizer = gpt.configure_optimizers(0.1, LEARNING_RATE, (0.9, 0.95), 'cpu')
    loss_of = torch.compile(gpt) if compile else gpt
    X = torch.tensor(tokens(batch))  # [batch, window]
    Y = torch.cat([X[:, 1:], torch.full_like(X[:, :1], -1)], dim=1)  # -1: not to be predicted

    def step():
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == 'bfloat16'):
            _, loss = loss_of(X, Y)
        loss.backward()
        if not (bare or adafactor):
            torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def nanogpt_bare(batch):
    return nanogpt(batch, bare=True)


def nanogpt_adafactor(batch):
    return nanogpt(batch, adafactor=True)


def nanogpt_compiled(batch):
    return nanogpt(batch, compile=True)


def nanogpt_bfloat16(batch):
    return nanogpt(batch, dtype='bfloat16')


def nanogpt_bare_bfloat16(batch):
    return nanogpt(batch, dtype='bfloat16', bare=True)


SYSTEMS = {
    'ours': ours,
    'ours --memory_saving_gradients': ours_memory_saving,
    'ours, clipping and decay': ours_as_nanogpt,
    'nanoGPT': nanogpt,
    'nanoGPT, nothing but Adam': nanogpt_bare,
    'nanoGPT, torch.compile': nanogpt_compiled,
    'ours, bfloat16': ours_bfloat16,
    'ours, bfloat16, clipping, decay': ours_as_nanogpt_bfloat16,
    'nanoGPT, bfloat16': nanogpt_bfloat16,
    'nanoGPT, bfloat16, just Adam': nanogpt_bare_bfloat16,
}
WITH_ADAFACTOR = {'ours, Adafactor': ours_adafactor, 'nanoGPT, Adafactor': nanogpt_adafactor}


def measure(name, batch):
    """What a process measures of itself, as JSON on stdout."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # nanoGPT tells how large it is
        step = (SYSTEMS | WITH_ADAFACTOR)[name](batch)
    losses = [step() for _ in range(WARM_UP)]
    warm_up, seconds = time.perf_counter() - start, []
    for _ in range(STEPS):
        start = time.perf_counter()
        losses.append(step())
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # KiB on Linux -> GB
    print(json.dumps({'warm_up': warm_up, 'seconds': seconds, 'peak': peak, 'losses': losses}))


def run(name, batch):
    """`measure` in a process of its own."""
    command = [sys.executable, os.path.realpath(__file__), CHECKOUT, 'measure', name, batch]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare(batch):
    names, shape = list(SYSTEMS), BATCHES[batch][0]
    if shape is LONG:
        names = [name for name in names if 'bfloat16' not in name and 'compile' not in name]
    if shape is LARGE:
        names = list(WITH_ADAFACTOR)
    results = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in results:
            results[name].append(run(name, batch))
            print(name, results[name][-1]['seconds'], file=sys.stderr, flush=True)
    medians = {
        n: statistics.median(sum((r['seconds'] for r in rs), [])) for n, rs in results.items()
    }
    ours = medians[names[0]]
    print(f'{batch:32} s/step  slowest  x ours  peak GB  warm-up s  loss')
    for name, rounds in results.items():
        slowest = max(max(r['seconds']) for r in rounds)
        peak = max(r['peak'] for r in rounds)
        warm_up, losses = rounds[0]['warm_up'], rounds[0]['losses']
        print(
            f'{name:32} {medians[name]:6.2f}  {slowest:7.2f}  {medians[name] / ours:6.2f}  '
            f'{peak:7.2f}  {warm_up:9.1f}  {losses[0]:.2f} -> {losses[-1]:.2f}',
            flush=True,
        )


def main():
    if not os.path.exists(os.path.join(CHECKOUT, 'model.py')):
        sys.exit('What is missing: a checkout of github.com/karpathy/nanoGPT, as the argument')
    for batch in sys.argv[2:] or ('1x1024', '4x256'):
        compare(batch)


if __name__ == '__main__':
    measure(*sys.argv[3:]) if sys.argv[2:3] == ['measure'] else main()
