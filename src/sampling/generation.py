"""A prompt to texts: the whole way.

from src.sampling import generation
gpt2 = generation.load('124M')
for text in generation.generate(gpt2, 'The secret of', length=40, top_k=40, seed=1):
    print(text)
"""

import dataclasses
import itertools
import time
import typing

import numpy as np
import tqdm

from .. import encoder
from ..model_files import model_directory
from . import backends, endings, sample_config, sample_numpy
from .sample_config import PLAIN

PATIENCE = 0.3  # seconds that Ctrl-C may wait for the tokens that are being drawn
STEPS = 4  # tokens between two looks for a text that ends a sample,
MOST_TOKENS = 10**8  # that are worked on at once; each has 20 bytes
LONG_STEPS = 64  # or, where none does, at the keyboard


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model that is ready to speak."""

    lm: typing.Any  # model.GPT2 or litert.LiteRT
    encoder: encoder.Encoder


def load(
    model_name=model_directory.DEFAULT,
    models_dir='models',
    adapters=None,
    engine='auto',
    dtype=None,
):
    """The model of that name, or in that directory, at once; see `loading`."""
    return loading(model_name, models_dir, adapters, engine, dtype)()


def loading(model_name, models_dir='models', adapters=None, engine='auto', dtype=None):
    """A function that loads the model of that name, or in that directory, and gives a Loaded.

    Says on stderr which checkpoint it is.

    Args:
        adapters: the path of model-N.adapters.npz, what train.py --lora_rank taught this model.
        engine, dtype: what computes, and in which numbers; see backends.load.

    Raises ValueError: no such model, or files that are damaged or do not fit together.
    """
    directory, prefix = model_directory.checkpoint_of(model_name, models_dir)
    enc = encoder.get_encoder('', directory)
    lm_of = backends.loading(directory, adapters, engine, dtype, prefix)

    def load():
        lm = lm_of()
        model_directory.require_vocabulary(directory, enc.decoder, lm.hparams.n_vocab)
        return Loaded(lm, enc)

    return load


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was said behind a prompt."""

    prompt: str | None
    context: list  # the ids of the prompt
    ids: list  # all that were drawn, a few behind what ended the text among them
    text: str


def generate(loaded, prompt=None, **options):
    """The texts of `samples`, which explains the options."""
    return (each.text for each in samples(loaded, prompt, **options))


def samples(loaded, prompt=None, *, length=None, config=PLAIN, **options):
    """Samples that continue a prompt, one after the other as they are finished.

    Args:
        loaded: what `load` returned.
        prompt: text, or a list of texts, each of which is continued `nsamples` times; None begins
            a text from nothing, behind `<|endoftext|>`.
        length: tokens in each text; where None, half the window after a prompt and all of it
            without one, as far as the prompt leaves room. The model sees n_ctx tokens: behind
            them, it goes on with the last half.
        config: what ends a text, and what it shall not say.
        options: nsamples, batch_size, temperature, top_k, top_p and seed, as in generate_tokens.

    Raises ValueError, before the first is drawn: an option is unknown or out of its range, or the
        vocabulary cannot write the prompt.
    """
    sample_config.check(length=length, **options)
    enc, prompts = loaded.encoder, [*prompt] if isinstance(prompt, list | tuple) else [prompt]
    contexts = [context_of(enc, prompt) for prompt in prompts]
    lengths = [length_of(loaded.lm, *each, length) for each in zip(prompts, contexts, strict=True)]
    stops = config.stops()
    if config.num_beams:
        backends.require_tensorflow(loaded.lm, 'num_beams')
        grown = _searched(loaded, contexts, lengths, config.num_beams, **options)
    else:
        grown = _grown(
            loaded.lm,
            contexts,
            lengths,
            ended=(lambda i: endings.ends(enc.decode(i), stops) is not None) if stops else None,
            controls=config.controls(enc, loaded.lm.hparams.n_vocab),
            **options,
        )

    def sample(number, ids):
        text = enc.decode(ids)
        text = text[: endings.ends(text, stops)]
        if config.include_prefix:
            text = (prompts[number] or '') + text
        return Sample(prompts[number], contexts[number], ids, text)

    return (sample(number, ids) for number, ids in grown)


def stream(loaded, prompt=None, *, length=None, config=PLAIN, number=0, seed=None, **options):
    """The pieces of one text, as they are drawn; together they are what `generate` gives.

    No piece ends inside of a character, or of a text that ends the sample.

    Args:
        number: which of the samples of that seed.
        options: temperature, top_k and top_p.

    Raises ValueError, before the first piece, as `samples` does.
    """
    sample_config.check(length=length, seed=seed, **options)
    if config.num_beams:
        raise ValueError('What num_beams finds is known at its end alone; leave out stream')
    context = context_of(loaded.encoder, prompt)
    length = length_of(loaded.lm, prompt, context, length)
    rows = backends.rows(
        loaded.lm,
        [context],
        length,
        sample_numpy.uniforms_for(seed, [number], length),
        controls=config.controls(loaded.encoder, loaded.lm.hparams.n_vocab),
        **options,
    )
    prefix = [prompt] if config.include_prefix and prompt else []
    return itertools.chain(prefix, _pieces(rows, loaded.encoder, config.stops()))


def _pieces(rows, enc, stops):
    """The pieces of the one text of some Rows."""
    begin, shown, more = int(rows.known[0]), 0, True
    while more:
        with backends.enough_memory():
            more = rows.grow(1)
        ids = rows.tokens[0, begin : rows.known[0]].tolist()
        text = enc.decode(ids, complete=not more)
        end = endings.ends(text, stops)
        more = more and end is None
        text = text[:end] if not more else text[: len(text) - endings.begun(text, stops)]
        if len(text) > shown:
            yield text[shown:]
            shown = len(text)
        if enc.decode(ids) == text:  # nothing is held back: it need not be decoded again
            begin, shown = begin + len(ids), 0


def streams(loaded, prompt=None, *, nsamples=1, **options):
    """One `stream` after the other, of `nsamples` samples; 0 goes on for ever."""
    sample_config.check(nsamples=nsamples)
    return (stream(loaded, prompt, number=number, **options) for number in _numbers(nsamples))


def logits_after(loaded, prompt=None):
    """The logits of the token after a prompt, or the end of one that is too long, [vocab]."""
    lm, ids = loaded.lm, context_of(loaded.encoder, prompt)[-loaded.lm.hparams.n_ctx :]
    if isinstance(lm, backends.litert.LiteRT):
        return lm.start(ids)
    return lm(np.array([ids], np.int32))['logits'][0, -1].numpy()


def end_of_text(enc):
    """The token from which a text begins; ValueError where the vocabulary has none."""
    if encoder.END_OF_TEXT not in enc.encoder:
        raise ValueError('This vocabulary has no <|endoftext|> to begin a text from; give a prompt')
    return enc.encoder[encoder.END_OF_TEXT]


def context_of(enc, prompt):  # -> a list of ids
    ids = [end_of_text(enc)] if prompt is None else sample_config.ids_of(enc, prompt)
    if not ids:
        raise ValueError('The prompt is empty; a text begins from at least one character')
    return ids


def length_of(lm, prompt, context, length):  # -> how many tokens are drawn
    n_ctx = lm.hparams.n_ctx
    if length is None:
        default = n_ctx if prompt is None else n_ctx // 2
        return max(1, min(default, n_ctx + 1 - len(context)))
    return length


def generate_tokens(lm, context, *, length, controls=None, **options):
    """Arrays [sequence + length]: the context, a list of ids, each time continued anew.

    Args:
        controls: what changes the logits, as SampleConfig.controls gives it.
        options: nsamples, how many (1), 0 goes on for ever; batch_size, how many are worked on at
            once (1); seed, a whole number or several: the same seed and context give the same
            samples, whatever batch_size is, None (the default) is different each time; and those
            of sample.sample_sequence.
    """
    sample_config.check(length=length, **options)
    grown = _grown(lm, [context], [length], controls=controls, **options)
    return (np.array([*context, *ids], np.int32) for _, ids in grown)


def _grown(
    lm, contexts, lengths, *, nsamples=1, batch_size=1, seed=None, ended=None, controls=None,
    **options,
):  # fmt: skip
    """Which context it is, and the ids behind it, of each sample as it is finished.

    A row ends some tokens after `ended(ids)` has become true. A bar shows what takes long. Ctrl-C
    ends it as soon as a few tokens are drawn, behind the samples of its batch that are whole.
    """
    numbers, each = _numbers(nsamples), range(len(contexts))
    if nsamples:
        todo = ((i, number) for i in each for number in numbers)
        batch_size = min(batch_size, nsamples * len(contexts))
    else:
        todo = ((i, number) for number in numbers for i in each)
    if batch_size * max(lengths, default=0) > MOST_TOKENS:
        raise ValueError(
            f'{batch_size} texts of {max(lengths)} tokens are too many at once; lower '
            f'--batch_size or --length: together they may be {MOST_TOKENS}'
        )
    while some := list(itertools.islice(todo, batch_size)):
        batch = some + some[-1:] * (batch_size - len(some))  # of one size, compiled once
        rows = backends.rows(
            lm,
            [contexts[i] for i, _ in batch],
            [lengths[i] for i, _ in batch],
            [sample_numpy.uniforms_for(seed, [number], lengths[i])[0] for i, number in batch],
            controls=controls,
            **options,
        )
        rows.end[len(some) :] = rows.known[len(some) :]
        first = [len(contexts[i]) for i, _ in batch]

        def said(row, rows=rows, first=first):
            return rows.tokens[row, first[row] : rows.known[row]].tolist()

        total, more, stopped, steps = int(sum(rows.end - rows.known)), True, None, STEPS
        with tqdm.tqdm(total=total, unit=' tokens', delay=2, leave=False, disable=None) as bar:
            while more and not stopped:
                begun = time.monotonic()
                try:
                    with backends.enough_memory():
                        more = rows.grow(steps)
                except KeyboardInterrupt as stop:
                    stopped = stop
                if time.monotonic() - begun > PATIENCE:
                    steps = max(1, steps // 2)
                elif not ended:
                    steps = min(2 * steps, LONG_STEPS)
                for row in range(len(batch)) if ended and more else ():
                    if ended(said(row)):
                        rows.end[row] = rows.known[row]
                bar.update(int(sum(rows.known)) - sum(first) - bar.n)
        for row, (i, _) in enumerate(some):
            if rows.known[row] >= rows.end[row]:
                yield i, said(row)
        if stopped:
            raise stopped


def _numbers(nsamples):
    return range(nsamples) if nsamples else itertools.count()


def _searched(loaded, contexts, lengths, num_beams, nsamples=0, **_):
    """As _grown: for each context the `nsamples` likeliest that were found, or all for 0."""
    from . import beam

    for i, (context, length) in enumerate(zip(contexts, lengths, strict=True)):
        end = loaded.encoder.encoder.get(encoder.END_OF_TEXT)
        options = {'length': length, 'num_beams': num_beams, 'end': end}
        with backends.enough_memory():
            beams = beam.beam_search(loaded.lm, context, **options)
        for found in beams[: nsamples or None]:
            yield i, found.tokens
