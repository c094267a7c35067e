#!/usr/bin/env python3
"""Ask for a prompt, print samples that continue it, and ask again."""

if (
    not __package__
):  # started by its path, or imported beside it: belong to the package all the same
    import importlib.util
    import os
    import sys

    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    __spec__ = importlib.util.find_spec('src.interactive_conditional_samples')
    __package__ = __spec__.parent

import concurrent.futures
import contextlib
import os
import signal
import sys

from .command_line import escaping, flags, invocation
from .model_files import model_directory
from .sampling import litert, sample_config


def interact_model(
    model_name=model_directory.DEFAULT,
    seed=None,
    nsamples=1,
    batch_size=1,
    length=None,
    temperature=1,
    top_k=0,
    top_p=1,
    models_dir='models',
    adapters=None,
    engine='auto',
    dtype=None,
    stream: bool | None = None,
    config=sample_config.PLAIN,
):
    """Interactively run the model.

    Args:
        model_name: String, which model to use, or the path of its directory
        seed: Integer seed; the same seed and prompt give the same samples
        nsamples: Number of samples to print for each prompt
        batch_size: Number of samples to work on at once (only affects speed and memory)
        length: Number of tokens in a sample; if None (default), half the model's window, or
            less where the prompt leaves no more
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
        stream: True shows a text while it grows, False when it is done; if None (default), it
            grows on a terminal
    """
    top_p, models_dir = sample_config.models_dir_in_place_of_top_p(top_p, models_dir)
    options = {'length': length, 'temperature': temperature, 'top_k': top_k, 'top_p': top_p}
    options |= {'seed': seed, 'nsamples': nsamples}
    sample_config.check(batch_size=batch_size, **options)
    from .sampling import generation  # here, so that what cannot be is refused at once

    options['config'] = config
    if engine == 'auto' and config.num_beams:
        engine = 'tensorflow'
    load = generation.loading(model_name, models_dir, adapters, engine, dtype)
    if stream is None:
        stream = sys.stdout.isatty() and not config.num_beams
    rows = 1 if stream else min(batch_size, nsamples or batch_size)
    loading = Loading(lambda: prepared(load(), rows, **options)) if sys.stdin.isatty() else None
    loaded = None if loading else load()
    while prompt := loading.ask() if loading else ask():
        if loading:
            loaded = loading.result()
        try:
            if not loaded:
                raise KeyboardInterrupt
            if stream:
                texts = generation.streams(loaded, prompt, **options)
            else:
                texts = generation.generate(loaded, prompt, batch_size=batch_size, **options)
            for number, text in enumerate(texts, 1):
                print('=' * 40 + f' SAMPLE {number} ' + '=' * 40)
                for piece in text if stream else [text]:
                    print(escaping.shown(piece), end='', flush=True)
                print(flush=True)
        except ValueError as error:
            print(escaping.printable(str(error)), file=sys.stderr)
        except KeyboardInterrupt:  # of this text, not of the program
            print(flush=True)
        print('=' * 80, flush=True)


class Loading:
    """A model that is loaded in a thread while the first prompt is typed.

    What is wrong with it is raised by `ask` and `result`.
    """

    def __init__(self, work):
        self._asking, self._future = False, concurrent.futures.ThreadPoolExecutor(1).submit(work)
        self._future.add_done_callback(self._end)

    def _end(self, future):
        if future.exception() and self._asking:
            os.kill(os.getpid(), signal.SIGINT)  # nobody shall type for nothing

    def ask(self):
        """As the function."""
        self._asking = True
        try:
            if self._future.done():
                self._future.result()
            return ask()
        except KeyboardInterrupt:
            if self._future.done():
                self._future.result()
            raise
        finally:
            self._asking = False

    def result(self):
        """What was loaded, or None after Ctrl-C."""
        if not self._future.done():
            command = invocation.command('export')
            print(
                'Loading, and compiling for the first text; later ones come at once. '
                f'What {command} writes starts in half a second',
                file=sys.stderr,
            )
        try:
            return self._future.result()
        except KeyboardInterrupt:
            return self._future.result() if self._future.done() else None


def prepared(loaded, batch_size, *, config, temperature, top_k, top_p, **_):
    """A model that has been compiled for its first text, where it is TensorFlow's."""
    from .sampling import backends

    if not isinstance(loaded.lm, litert.LiteRT) and not config.num_beams:
        options = {'temperature': temperature, 'top_k': top_k, 'top_p': top_p}
        options['controls'] = config.controls(loaded.encoder, loaded.lm.hparams.n_vocab)
        backends.compile_for_first_text(loaded.lm, batch_size, **options)
    return loaded


def ask():
    """What is typed at the prompt, asked for until it is text; None at the end of the input.

    A line that ends with a backslash goes on in the next.
    """
    try:
        while True:
            prompt = input('Model prompt >>> ').removeprefix('\ufeff')  # a mark, in a file piped in
            while prompt.endswith('\\'):
                prompt = prompt[:-1] + '\n' + input('... ')
            if not prompt:
                print('Prompt should not be empty!')
            elif prompt.encode(errors='replace').decode() == prompt:
                return prompt
            else:
                told = 'This prompt is not text in UTF-8; in a pipe, iconv makes it that'
                print(told, file=sys.stderr)
    except EOFError:
        print()
        return None


def main():
    with contextlib.suppress(ImportError):  # there is none on Windows
        import readline  # noqa: F401 - input() then has a history, and lines that can be edited
    text = ['model_name', 'models_dir', 'adapters', 'engine', 'dtype']
    typed = dict.fromkeys(('prompt', 'prefix', 'context', 'input'), 'it is typed when asked for')
    flags.call_from_command_line(
        interact_model, text, sample_config.SampleConfig, sample_config.ELSEWHERE | typed
    )


if __name__ == '__main__':
    flags.run(main)
