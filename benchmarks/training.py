"""Seconds and memory of a training step of the 124M shape, beside PyTorch, measured in one run.

    python benchmarks/training.py

Random weights and tokens, Adam, batches of 1 x 1024 and of 4 x 256. Each system runs in processes
of its own, so that the peak memory is its own, and takes turns with the others. See README.md.
"""

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
BATCHES = {'1x1024': (1, 1024), '4x256': (4, 256)}
LEARNING_RATE = 2e-5
ROUNDS, WARM_UP, STEPS = 2, 2, 4  # processes for each system; steps in each, before and with clock


def tokens(batch):  # -> [batch, window]
    return np.random.default_rng(0).integers(0, SHAPE['n_vocab'], BATCHES[batch])


# Each system is a function that gives back another: one training step, from nothing to its loss.


def ours(batch, **flags):
    import tensorflow as tf

    from src import memory, model, train_config, train_step

    memory.give_back('memory_saving_gradients' in flags)
    hparams = model.default_hparams()
    hparams.override_from_dict(SHAPE)
    batch_size, window = BATCHES[batch]
    config = train_config.TrainConfig(
        dataset='', learning_rate=LEARNING_RATE, seed=0, batch_size=batch_size, **flags
    )
    lm = model.GPT2(hparams, model.init_params(hparams, seed=0))
    state = train_step.TrainState(lm, config, list(tokens(batch).astype(np.uint16)))
    compiled = train_step.compiled(state, config, window)
    batches = tf.constant(tokens(batch)[None], tf.int32)  # [1 to accumulate, batch, window]
    return lambda: float(compiled(batches, LEARNING_RATE)[0])


def ours_memory_saving(batch):
    return ours(batch, memory_saving_gradients=True)


def ours_bfloat16(batch):
    return ours(batch, dtype='bfloat16')


def nanogpt_style(batch, compile=False, dtype='float32'):
    """What nanoGPT does: fused attention, tied embedding, AdamW; nothing that only a GPU has."""
    import torch
    from torch import nn
    from torch.nn import functional

    n_embd, n_head = SHAPE['n_embd'], SHAPE['n_head']

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
            self.c_attn, self.c_proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
            self.mlp = nn.Sequential(
                nn.Linear(n_embd, 4 * n_embd),
                nn.GELU(approximate='tanh'),
                nn.Linear(4 * n_embd, n_embd),
            )

        def forward(self, x):  # [batch, sequence, features] -> the same
            qkv = self.c_attn(self.ln_1(x)).split(n_embd, dim=2)
            q, k, v = (y.unflatten(2, (n_head, -1)).transpose(1, 2) for y in qkv)
            a = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.c_proj(a.transpose(1, 2).flatten(2))
            return x + self.mlp(self.ln_2(x))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte = nn.Embedding(SHAPE['n_vocab'], n_embd)
            self.wpe = nn.Embedding(SHAPE['n_ctx'], n_embd)
            self.h = nn.Sequential(*[Block() for _ in range(SHAPE['n_layer'])])
            self.ln_f = nn.LayerNorm(n_embd)
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.02)

        def forward(self, X):  # [batch, sequence] -> []
            h = self.wte(X) + self.wpe.weight[: X.shape[1]]
            logits = functional.linear(self.ln_f(self.h(h)), self.wte.weight)
            return functional.cross_entropy(logits[:, :-1].flatten(0, 1), X[:, 1:].flatten())

    torch.manual_seed(0)
    gpt, X = GPT(), torch.tensor(tokens(batch))
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=LEARNING_RATE, weight_decay=0, fused=True)
    loss_of = torch.compile(gpt) if compile else gpt

    def step():
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == 'bfloat16'):
            loss = loss_of(X)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def nanogpt_style_compiled(batch):
    return nanogpt_style(batch, compile=True)


def nanogpt_style_bfloat16(batch):
    return nanogpt_style(batch, dtype='bfloat16')


SYSTEMS = {
    'ours': ours,
    'ours --memory_saving_gradients': ours_memory_saving,
    'PyTorch, nanoGPT style': nanogpt_style,
    'PyTorch, torch.compile': nanogpt_style_compiled,
    'ours --dtype bfloat16': ours_bfloat16,
    'PyTorch, bfloat16 autocast': nanogpt_style_bfloat16,
}


def measure(name, batch):
    """What a process measures of itself, as JSON on stdout."""
    start = time.perf_counter()
    step = SYSTEMS[name](batch)
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
    command = [sys.executable, os.path.realpath(__file__), name, batch]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare(batch):
    results = {name: [] for name in SYSTEMS}
    for _ in range(ROUNDS):
        for name in SYSTEMS:
            results[name].append(run(name, batch))
    medians = {
        n: statistics.median(sum((r['seconds'] for r in rs), [])) for n, rs in results.items()
    }
    ours = medians['ours']
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
    for batch in BATCHES:
        compare(batch)


if __name__ == '__main__':
    measure(*sys.argv[1:]) if len(sys.argv) == 3 else main()
