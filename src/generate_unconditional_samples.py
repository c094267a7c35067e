#!/usr/bin/env python3
"""Print samples that begin from nothing, without end or `nsamples` of them."""

if (
    not __package__
):  # started by its path, or imported beside it: belong to the package all the same
    import importlib.util
    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    __spec__ = importlib.util.find_spec('src.generate_unconditional_samples')
    __package__ = __spec__.parent

import contextlib
import json
import os

from .command_line import escaping, flags
from .model_files import model_directory
from .sampling import sample_config


def sample_model(
    model_name=model_directory.DEFAULT,
    seed=None,
    nsamples=0,
    batch_size=1,
    length=None,
    temperature=1,
    top_k=0,
    top_p=1,
    models_dir='models',
    adapters=None,
    engine='auto',
    dtype=None,
    prefix=None,
    prefix_file=None,
    stream: bool = False,
    out=None,
    sample_delim='=' * 20,
    logprobs=0,
    config=sample_config.PLAIN,
):
    """Run the sample_model.

    Args:
        model_name: String, which model to use, or the path of its directory
        seed: Integer seed; the same seed gives the same samples
        nsamples: Number of samples to print; 0 (default) goes on until it is interrupted
        batch_size: Number of samples to work on at once (only affects speed and memory)
        length: Number of tokens in a sample; if None (default), the model's window
        temperature: Float that divides the logits: below 1 keeps to what is likely, above 1
            strays from it, and 0 always takes the likeliest token
        top_k: Integer; only the k likeliest tokens are considered, 40 is a good value; 0 (default)
            considers all
        top_p: Float; only the likeliest tokens that together reach this probability are
            considered, after top_k; off at 0 and 1
        models_dir: path to the parent folder of the models' own
        adapters: String, the path of a model-N.adapters.npz that train.py --lora_rank wrote, to
            be added to the model's weights
        engine: String, tensorflow, litert (on CPUs, faster and ready at once, what
            `python -m src export` wrote), or auto: litert where that is up to date
        dtype: String, of the weights: float32, bfloat16 or float16, which take half the memory,
            or int8, of litert; if None (default), float32, or int8 where only that was exported
        prefix: String, what each sample begins with, or FILE: and the path of a text that is it
        prefix_file: String, the path of a text each line of which is a prefix; of each there are
            `nsamples` samples, one by itself
        stream: True shows each sample while it grows
        out: String, the path of a new file for the samples, instead of the terminal
        sample_delim: String, the line between samples in that file
        logprobs: Integer; above 0, `out` is JSON, a line for each sample, with the
            log-probability of each token and of as many likeliest ones in its place
    """
    top_p, models_dir = sample_config.models_dir_in_place_of_top_p(top_p, models_dir)
    options = {'length': length, 'temperature': temperature, 'top_k': top_k, 'top_p': top_p}
    options |= {'seed': seed, 'nsamples': nsamples or (1 if prefix_file else 0)}
    sample_config.check(batch_size=batch_size, **options)
    if type(logprobs) is not int or logprobs < 0:
        raise ValueError(f'logprobs is {logprobs!r}; it must be a whole number, 0 or more')
    if logprobs and not out:
        raise ValueError('logprobs are written to a file; give --out samples.jsonl as well')
    if stream and (out or prefix_file):
        raise ValueError('stream shows samples of one prefix on the terminal; leave out --stream')
    if out and os.path.exists(out):
        raise ValueError(f'{out} is there already; give another --out')
    if out and not os.path.isdir(os.path.dirname(out) or os.curdir):
        raise ValueError(f'there is no folder to write {out} into; make it first')
    prompts = prefixes(prefix, prefix_file)
    from .sampling import generation, token_logprobs  # here: what cannot be is refused at once

    options['config'] = config
    if engine == 'auto' and (logprobs or config.num_beams):
        engine = 'tensorflow'
    loaded = generation.load(model_name, models_dir, adapters, engine, dtype)
    if stream:
        show(generation.streams(loaded, prompts[0], **options))
        return
    if logprobs:
        token_logprobs.require_possible(loaded, prompts, length)
    samples = generation.samples(loaded, prompts, batch_size=batch_size, **options)
    if not out:
        show([sample.text] for sample in samples)
        return
    with new_file(out) as file:
        for sample in samples:
            if logprobs:
                tokens = token_logprobs.of_sample(loaded, sample, logprobs)
                line = {'prompt': sample.prompt, 'text': sample.text, 'tokens': tokens}
                print(json.dumps(line, ensure_ascii=False), file=file, flush=True)
            else:
                print(sample.text, sample_delim, sep='\n', file=file, flush=True)


def show(samples):  # each of them in pieces
    for number, pieces in enumerate(samples, 1):
        print('=' * 40 + f' SAMPLE {number} ' + '=' * 40)
        for piece in pieces:
            print(escaping.shown(piece), end='', flush=True)
        print(flush=True)


def prefixes(prefix, prefix_file):
    """A list of texts, or of None where a sample shall begin from nothing."""
    if prefix_file:
        lines = [line for line in sample_config.read_text(prefix_file).split('\n') if line.strip()]
        if not lines:
            raise ValueError(f'{prefix_file} has no line that is a prefix')
        return lines
    if prefix and prefix.startswith('FILE:'):
        prefix = sample_config.read_text(prefix.removeprefix('FILE:'))
    return [prefix or None]


@contextlib.contextmanager
def new_file(path):
    try:
        file = open(path, 'x', encoding='utf-8', errors='surrogateescape')
    except FileExistsError:
        raise ValueError(f'{path} is there already; give another --out') from None
    try:
        with file:
            yield file
    finally:
        if not os.path.getsize(path):  # nothing came of it
            os.remove(path)


def main():
    text = ['model_name', 'models_dir', 'adapters', 'engine', 'dtype']
    text += ['prefix', 'prefix_file', 'out', 'sample_delim']
    flags.call_from_command_line(
        sample_model, text, sample_config.SampleConfig, sample_config.ELSEWHERE
    )


if __name__ == '__main__':
    flags.run(main)
