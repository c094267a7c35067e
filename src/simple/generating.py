"""Texts, as gpt-2-simple's programs ask for them: printed, in a list, in a file."""

import contextlib
import os
import sys

from ..command_line import escaping
from ..sampling import generation, sample_config
from . import session

DELIMITER = '=' * 20 + '\n'  # between texts
LENGTH = 1023  # tokens, and with the prefix as many
DEFAULT = ('run1', 'checkpoint')  # which means the session's model


def generate(
    sess,
    run_name='run1',
    checkpoint_dir='checkpoint',
    model_name=None,
    model_dir='models',
    sample_dir='samples',
    return_as_list=False,
    truncate=None,
    destination_path=None,
    sample_delim=DELIMITER,
    prefix=None,
    seed=None,
    nsamples=1,
    batch_size=1,
    length=LENGTH,
    temperature=0.7,
    top_k=0,
    top_p=0.0,
    include_prefix=True,
):
    """Print texts of the model that a session has, give them, or write them to a file.

    Args:
        run_name, checkpoint_dir, model_name, model_dir: the session has its model, whatever they
            are; where they name another one, that is said.
        sample_dir: means nothing.
        return_as_list: give the texts instead of printing them.
        truncate: the text at which a text ends, before it.
        destination_path: a file for the texts, whose content they replace.
        sample_delim: what is behind each text, unless there is only one.
        prefix: what each text begins with.
        seed: the same seed and prefix give the same texts.
        batch_size: how many are worked on at once; a part of nsamples.
        length: tokens behind the prefix; together they are n_ctx - 1 at most.
        temperature, top_k: as everywhere.
        top_p: above 0, in place of top_k.
        include_prefix: whether the prefix stays in front.

    Raises, before a text is drawn:
        ValueError: an option that cannot be that, or no room for a text.
        FileNotFoundError: no folder for the file.
    """
    options = {
        'length': length,
        'nsamples': nsamples,
        'batch_size': batch_size or 1,
        'temperature': temperature,
        'top_k': 0 if top_p else top_k,
        'top_p': top_p,
        'seed': seed,
    }
    check(prefix, destination_path, **options)
    session.require(sess)
    _tell_of_another(sess, model_name, model_dir, run_name, checkpoint_dir)
    texts = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(session.eagerly())
        file = None
        for text in _texts(sess.loaded(), prefix or None, truncate, include_prefix, options):
            texts.append(text)
            text = f'{text}\n{sample_delim if nsamples > 1 else ""}'
            if destination_path:
                # Only now, when there is something to put in the place of what lies there.
                file = file or stack.enter_context(
                    open(destination_path, 'w', encoding='utf-8', errors='surrogateescape')
                )
                print(text, end='', file=file, flush=True)
            elif not return_as_list:
                print(escaping.shown(text), end='', flush=True)
    return texts if return_as_list else None


def check(prefix, destination_path, **options):
    """Raise what generate raises where something that it takes cannot be what it is."""
    sample_config.check(**options)
    if not isinstance(prefix, str | None):
        raise ValueError(f'prefix is {prefix!r}; it must be text')
    if destination_path and not os.path.isdir(os.path.dirname(destination_path) or os.curdir):
        told = f'there is no folder to write {destination_path} into; make it first'
        raise FileNotFoundError(told)
    if destination_path and os.path.isdir(destination_path):
        raise ValueError(f'{destination_path} is a folder; name a file in it')
    nsamples, batch_size = options['nsamples'], options['batch_size']
    if nsamples % batch_size:
        raise session.Refused(
            f'nsamples is {nsamples}, batch_size is {batch_size}: texts are made in whole batches. '
            'Let nsamples be a multiple of batch_size'
        )


def _texts(loaded, prefix, truncate, include_prefix, options):
    """The texts, as they are finished."""
    if not options['nsamples']:  # which would have no end
        return
    length = _length(loaded, prefix, options['length'])
    config = sample_config.SampleConfig(
        stop=[truncate] if truncate else [], include_prefix=include_prefix
    )
    options = {**options, 'length': length, 'config': config}
    for text in generation.generate(loaded, prefix, **options):
        yield text.lstrip('\n')


def _length(loaded, prefix, length):
    """How many tokens to draw: `length`, and with the prefix one less than the window has."""
    n_ctx = loaded.lm.hparams.n_ctx
    prefixed = len(sample_config.ids_of(loaded.encoder, prefix)) if prefix else 0
    room = n_ctx - 1 - prefixed
    if room < 1:
        raise ValueError(
            f'The prefix is {prefixed} tokens; so that a text fits behind it, it may be '
            f'{n_ctx - 2} at most'
        )
    if length > room and length != LENGTH:
        print(f'length is {length}; there is room for {room} tokens', file=sys.stderr)
    return min(length, room)


def _tell_of_another(sess, model_name, model_dir, run_name, checkpoint_dir):
    """Say it where a program names a model that the session has not."""
    if not sess.directory or not model_name and (run_name, checkpoint_dir) == DEFAULT:
        return
    named = os.path.join(*((model_dir, model_name) if model_name else (checkpoint_dir, run_name)))
    if os.path.realpath(named) != os.path.realpath(sess.directory):
        print(
            f'This session has {sess.directory}, which speaks, and not {named}; '
            'gpt2.load_gpt2 changes that',
            file=sys.stderr,
        )


def generate_to_file(
    sess,
    run_name='run1',
    checkpoint_dir='checkpoint',
    model_name=None,
    model_dir='models',
    truncate=None,
    destination_path='gpt_2_gen_texts.txt',
    sample_delim=DELIMITER,
    prefix=None,
    seed=None,
    nsamples=1,
    batch_size=1,
    length=LENGTH,
    temperature=0.7,
    top_k=0,
    top_p=0.0,
    include_prefix=True,
):
    """Write texts to a file; what they are is said at generate."""
    generate(
        sess,
        run_name=run_name,
        checkpoint_dir=checkpoint_dir,
        model_name=model_name,
        model_dir=model_dir,
        truncate=truncate,
        destination_path=destination_path,
        sample_delim=sample_delim,
        prefix=prefix,
        seed=seed,
        nsamples=nsamples,
        batch_size=batch_size,
        length=length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        include_prefix=include_prefix,
    )
