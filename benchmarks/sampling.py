"""Tokens per second when sampling with the 124M shape, beside transformers, measured in one run.

    python benchmarks/sampling.py

Random weights, a prompt of 32 tokens, top_k 40, float32. Every line is measured in a process of its
own for each system. See README.md.
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
PROMPT, TOP_K = 32, 40
BATCHES, LENGTHS, REPETITIONS = (1, 8), (64, 512), 3


def prompt():  # a list of ids
    return np.random.default_rng(0).integers(0, SHAPE['n_vocab'], PROMPT).tolist()


# Each system is a function that gives back another, which samples: arrays [prompt + length].


def ours(batch, length):
    from src import generation, model

    hparams = model.default_hparams()
    hparams.override_from_dict(SHAPE)
    lm = model.GPT2(hparams, model.init_params(hparams, seed=0))

    def sample():
        options = {'length': length, 'nsamples': batch, 'batch_size': batch, 'top_k': TOP_K}
        return list(generation.generate_tokens(lm, prompt(), **options))

    return sample


def transformers(batch, length):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    lm = GPT2LMHeadModel(GPT2Config()).eval()  # its defaults are the 124M shape
    context = torch.tensor([prompt()] * batch)

    def sample():
        return lm.generate(
            context,
            attention_mask=torch.ones_like(context),
            do_sample=True,
            top_k=TOP_K,
            max_new_tokens=length,
            eos_token_id=None,  # no sample ends before its length
            pad_token_id=0,
        )

    return sample


SYSTEMS = {'ours': ours, 'transformers': transformers}


def measure(name, batch, length):
    """What a process measures of itself, as JSON on stdout."""
    sample = SYSTEMS[name](batch, length)
    seconds = []
    for _ in range(1 + REPETITIONS):
        start = time.perf_counter()
        samples = sample()
        seconds.append(time.perf_counter() - start)
        assert [len(tokens) for tokens in samples] == [PROMPT + length] * batch
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux -> GiB
    print(json.dumps({'first': seconds[0], 'seconds': seconds[1:], 'peak': peak}))


def run(*arguments):
    """`measure` in a process of its own."""
    command = [sys.executable, os.path.realpath(__file__), *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main():
    print('batch  length  system        tokens/s  fastest  x ours  first call s  peak GiB')
    for batch in BATCHES:
        for length in LENGTHS:
            ours_per_second = None
            for name in SYSTEMS:
                result = run(name, batch, length)
                per_second = batch * length / statistics.median(result['seconds'])
                fastest = batch * length / min(result['seconds'])
                ours_per_second = ours_per_second or per_second
                print(
                    f'{batch:5}  {length:6}  {name:12}  {per_second:8.1f}  {fastest:7.1f}  '
                    f'{per_second / ours_per_second:6.2f}  {result["first"]:12.1f}  '
                    f'{result["peak"]:8.2f}',
                    flush=True,
                )


if __name__ == '__main__':
    measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) == 4 else main()
