"""A prompt to texts: the Python interface of sampling.

from src import generation
gpt2 = generation.load('124M')
for text in generation.generate(gpt2, 'The secret of', length=40, top_k=40, seed=1):
    print(text)
"""

import dataclasses
import sys

from . import checkpoint, encoder, lora, model, model_directory, sample


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model that is ready to speak."""

    lm: model.GPT2
    encoder: encoder.Encoder


def load(model_name=model_directory.DEFAULT, models_dir='models', adapters=None):
    """The model of that name, or in that directory. Says on stderr which checkpoint it is.

    Args:
        adapters: the path of model-N.adapters.npz, what train.py --lora_rank taught this model.

    Raises ValueError: no such model, or files that are damaged or do not fit together.
    """
    directory = model_directory.find(model_name, models_dir)
    enc = encoder.get_encoder('', directory)
    hparams = checkpoint.read_hparams(directory)
    prefix = checkpoint.latest(directory)
    print('Loading checkpoint', prefix, file=sys.stderr)
    params = checkpoint.load(prefix, hparams)
    if adapters:
        lora.merge_into(params, adapters)
    return Loaded(model.GPT2(hparams, params), enc)


def generate(loaded, prompt=None, *, length=None, **options):
    """Texts that continue `prompt`, one after the other as they are finished.

    Args:
        loaded: what `load` returned.
        prompt: text; None begins a text from nothing, behind `<|endoftext|>`.
        length: tokens in each text; where None, half the window after a prompt and all of it
            without one, as far as the prompt leaves room.
        options: nsamples, batch_size, temperature, top_k, top_p and seed, as in
            generate_tokens.

    Raises ValueError: prompt and length do not fit into the model's window, or an option is out
        of its range.
    """
    n_ctx = loaded.lm.hparams.n_ctx
    if prompt is None:
        context, default = [end_of_text(loaded.encoder)], n_ctx
    else:
        context, default = loaded.encoder.encode(prompt), n_ctx // 2
    if length is None:
        length = max(1, min(default, n_ctx + 1 - len(context)))
    for tokens in generate_tokens(loaded.lm, context, length=length, **options):
        yield loaded.encoder.decode(tokens[len(context) :].tolist())


def end_of_text(enc):
    """The token from which a text begins; ValueError where the vocabulary has none."""
    if '<|endoftext|>' not in enc.encoder:
        raise ValueError('This vocabulary has no <|endoftext|> to begin a text from; give a prompt')
    return enc.encoder['<|endoftext|>']


def generate_tokens(
    lm, context, *, length, nsamples=1, batch_size=1, temperature=1, top_k=0, top_p=1, seed=None
):
    """Arrays [sequence + length]: the context, a list of ids, each time continued anew.

    Args:
        nsamples: how many; 0 goes on for ever.
        batch_size: how many are worked on at once.
        seed: a whole number, or several; the same seed and context give the same samples,
            whatever batch_size is. None is different each time.
        The others are those of sample.sample_sequence.
    """
    _require('nsamples', nsamples, int, 0)
    _require('batch_size', batch_size, int, 1)
    _require('length', length, int, 1)
    _require('temperature', temperature, (int, float), 0)
    _require('top_k', top_k, int, 0)
    _require('top_p', top_p, (int, float), float('-inf'))
    if nsamples:
        batch_size = min(batch_size, nsamples)
    first = 0
    while nsamples == 0 or first < nsamples:
        rows = range(first, first + batch_size)
        tokens = sample.sample_sequence(
            lm=lm,
            length=length,
            context=[context] * batch_size,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            uniforms=sample.uniforms_for(seed, rows, length),
        )
        yield from tokens if nsamples == 0 else tokens[: nsamples - first]
        first += batch_size


def _require(name, value, kind, least):
    if not isinstance(value, kind) or isinstance(value, bool) or not value >= least:
        what = 'a whole number' if kind is int else 'a number'
        raise ValueError(f'{name} is {value!r}; it must be {what}, {least} or more')
