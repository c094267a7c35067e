"""The loop of a run: what is done in each step, and when."""

import contextlib
import os
import signal
import sys
import threading
import time

import numpy as np

from .. import load_dataset, model
from ..gradients import lora
from ..model_files import checkpoint, model_directory
from ..sampling import generation
from . import distribution, progress, run_directory, schedule, train_step, validation

SKIPS = 5  # steps in a row whose loss is not a number, before a run ends


def window_of(sampler, config):
    """How many tokens to train on at once; says so where the text is shorter than it should be."""
    if sampler.longest >= config.seq_length:
        return config.seq_length
    if sampler.longest < 2:
        raise ValueError('The dataset has no two tokens in a row; there is nothing to predict')
    print(
        f'The longest text has {sampler.longest} tokens; training on windows of as many '
        f'instead of {config.seq_length}',
        file=sys.stderr,
    )
    return sampler.longest


class Run:
    """One process of a run: its files, its compiled functions, its loop."""

    def __init__(self, config, devices, initial, models, dataset, shown=progress.shown):
        """The arguments are what training.train finds out.

        Args:
            models: what initial_model.InitialModel.restored gave, for each device of this process.
            shown: a function that gives a progress.Progress.
        """
        self.shown = shown
        self.config = config
        self.devices = devices
        self.states = devices.on_each(  # they are the same
            lambda i: train_step.TrainState(
                models[i][0], config, dataset.chunks, models[i][1], dataset.end
            )
        )
        self.merged = None
        self.state = state = self.states[0]
        self.encoder = initial.encoder
        self.files = initial.files()  # of the model's directory, for the run's
        self.chunks = dataset.chunks
        self.window = window_of(state.sampler, config)
        self.has_learnt = False  # as much as it can, by --patience
        self.train_step = train_step.compiled(state, config, self.window, devices, self.states[1:])
        if config.val_every:
            sampler = load_dataset.Sampler(dataset.val_chunks, seed=1)
            window = window_of(sampler, config)
            self.validation = validation.Validation(state.lm, config, sampler, window, state.end)

    def resume(self, prefix):
        """Go on behind `prefix` if it is this run's; otherwise begin, with empty directories."""
        if prefix and prefix == model_directory.latest(run_directory.of(self.config)):
            self.state.counter = checkpoint.counter_of(prefix) + 1
            tensors = checkpoint.load_state(prefix)
            if tensors:
                self.devices.on_each(lambda i: self.states[i].restore(tensors))
            else:
                print(f'{prefix} has no state; the optimizer starts anew', file=sys.stderr)
        elif self.devices.is_chief:
            run_directory.set_aside(self.config)
        self.devices.require_same('The number of updates', int(self.state.updates))

    def loop(self):
        """Decides when; the methods know how. The order within a step is Shepperd's."""
        config, state = self.config, self.state
        last = self.last = config.steps and state.counter + config.steps - 1
        self.skipped = 0
        self.start_time = time.time()
        directory = run_directory.of(config)
        shown = self.shown if self.devices.is_chief else lambda *_: progress.Silence()
        with shown(directory, state.counter, last) as self.progress:
            with stop_requests() as self.stop:
                while True:
                    counter = state.counter
                    self.do_what_is_due(counter, last)
                    self.step()
                    # on any of the workers: 1 for the first reason, 2 for the other
                    reasons = self.devices.of_all(self.stop.is_set() + 2 * self.has_learnt)
                    if counter == last or any(reasons):
                        break
            if any(reason % 2 for reason in reasons):
                print('interrupted')
            self.save(counter)
        self.devices.of_all(0)  # a worker that left would look as if it had been lost

    def do_what_is_due(self, counter, last):
        config = self.config
        validates = config.val_every and (_due(counter, config.val_every) or counter == 1)
        remembers = config.save_best or config.patience
        if validates and remembers:  # first, so that the checkpoint knows of it
            self.validate()
        if _due(counter, config.save_every) and counter != last:
            with _going_on():
                self.save(counter)
        if _due(counter, config.sample_every) and config.sample_num:
            with _going_on():
                self.write_samples()
        if validates and not remembers:
            self.validate()

    def step(self):
        config, state = self.config, self.state
        shape = self.train_step.input_signature[0].shape
        windows = shape[0] * shape[1]
        batches = np.stack([state.sampler.sample(self.window) for _ in range(windows)])
        batches = batches.reshape(shape).astype(np.int32)
        learning_rate = schedule.learning_rate(state.counter, self.last, config)
        scale = float(state.loss_scale) if state.scales else 1.0
        start = time.time()
        self.progress.show()
        loss, norm = map(float, self.train_step(batches, learning_rate))
        took = time.time() - start
        self.progress.hide()
        if np.isfinite(loss):
            loss_sum, weight = state.avg_loss
            state.avg_loss = loss_sum * 0.99 + loss, weight * 0.99 + 1.0
        average = state.avg_loss[0] / max(1.0, state.avg_loss[1])
        self.progress.step(
            state.counter, self.seconds(), batches.size, took,
            loss=loss, average=average, learning_rate=learning_rate, gradient_norm=norm,
        )  # fmt: skip
        self.count_skipped(np.isfinite(loss + norm), np.isfinite(loss) and scale > 1)
        self.progress.line(
            f'[{state.counter} | {self.seconds():2.2f}] loss={loss:2.2f} avg={average:2.2f}'
        )
        state.counter += 1

    def count_skipped(self, finite, scale_was_too_large):
        """Raise ValueError when several steps in a row could not be made."""
        if not finite and scale_was_too_large:
            print(
                f'Step {self.state.counter} is skipped: its gradient is too large for float16; '
                f'the scale of the loss is now {float(self.state.loss_scale):g}',
                file=sys.stderr,
            )
            return
        self.skipped = 0 if finite else self.skipped + 1
        if self.skipped == SKIPS:
            raise ValueError(
                f'The loss or its gradient was not a number in {SKIPS} steps in a row. The '
                'checkpoints are as they were; try a smaller --learning_rate, or --clip_gradients 1'
            )
        if self.skipped:
            print(
                f'Step {self.state.counter} is skipped: its loss or gradient is not a number',
                file=sys.stderr,
            )

    def seconds(self):
        return time.time() - self.start_time

    @distribution.chief_alone
    def save(self, counter):
        directory = run_directory.of(self.config)
        print('Saving', os.path.join(directory, f'model-{counter}'), flush=True)
        write_more = self.write_adapters if self.config.lora_rank else lambda prefix: None
        checkpoint.save(
            directory, counter, self.plain_params(), self.state.tensors(), self.files, write_more
        )

    def plain_params(self):
        """What checkpoint.save takes: the parameters, with adapters merged into them."""
        params = self.state.lm.params
        return lora.merged(params, self.config.lora_scale) if self.config.lora_rank else params

    def write_adapters(self, prefix):
        alpha = self.config.lora_scale * self.config.lora_rank
        lora.write(prefix + lora.SUFFIX, self.state.lm.params, alpha, self.state.base or '')

    def speaker(self):
        """The model as it is now, as sampling takes it."""
        lm = self.state.lm
        if not self.config.lora_rank:
            return lm
        if self.merged is None:  # one for all samples, since sampling is compiled for a model
            self.merged = model.GPT2(lm.hparams, model.init_params(lm.hparams))
        variables = model.by_name(self.merged.params)
        for branch in lora.merged(lm.params, self.config.lora_scale):
            for name, value in model.by_name(branch).items():
                variables[name].assign(value)
        return self.merged

    @distribution.chief_alone
    def write_samples(self):
        """Print samples that begin with one random token of the dataset, and write them down."""
        config, counter = self.config, self.state.counter
        print('Generating samples...', flush=True)
        seed = [self.state.seed, counter]  # their own numbers: they do not disturb the training
        (token,) = load_dataset.Sampler(self.chunks, seed=seed).sample(1).tolist()
        samples = generation.generate_tokens(
            self.speaker(),
            [max(token, ~token)],  # below 0 if it is not to be learnt
            length=config.sample_length,
            nsamples=config.sample_num,
            batch_size=config.batch_size,
            top_k=0 if config.top_p > 0 else config.top_k,
            top_p=config.top_p,
            seed=seed,
        )
        texts = []
        for number, tokens in enumerate(samples, 1):
            text = self.encoder.decode(tokens.tolist())
            texts.append(f'======== SAMPLE {number} ========\n{text}\n')
            print(texts[-1], flush=True)
        self.progress.samples(counter, texts)
        directory = run_directory.of_samples(config)
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, f'samples-{counter}')
        with open(path, 'w', encoding=config.encoding, errors='replace') as file:
            file.write('\n'.join(texts))

    @distribution.chief_alone
    def validate(self):
        print('Calculating validation loss...', flush=True)
        loss = self.validation.loss(self.stop, self.progress.batches)
        if loss is None:
            return
        self.progress.write(self.state.counter, self.seconds(), val_loss=loss)
        self.progress.line(
            f'[{self.state.counter} | {self.seconds():2.2f}] validation loss = {loss:2.2f}'
        )
        if validation.is_best(self.state, loss) and self.config.save_best:
            with _going_on():
                self.save_best()
        self.has_learnt = validation.has_learnt(self.state, self.config.patience)

    def save_best(self):
        directory, counter = run_directory.of_best(self.config), self.state.counter
        print('Saving', os.path.join(directory, f'model-{counter}'), file=sys.stderr)
        checkpoint.save(directory, counter, self.plain_params(), None, self.files, keep=1)


def _due(counter, every):
    return every and counter % every == 0


@contextlib.contextmanager
def _going_on():
    """Say what went wrong with a file on the way, and let the training go on."""
    try:
        yield
    except OSError as error:
        print(f'{error}. Training goes on', file=sys.stderr)


@contextlib.contextmanager
def stop_requests():
    """An event that Ctrl-C and SIGTERM set, so that a step is finished before the run is saved.

    The second one is not caught. Outside the main thread nothing is.
    """
    stop = threading.Event()
    previous = {}

    def request(number, frame):
        stop.set()
        for name, handler in previous.items():
            signal.signal(name, handler)
        # not print, which may be at work when the signal comes
        os.write(2, b'stopping after this step; once more stops at once, unsaved\n')

    if threading.current_thread() is threading.main_thread():
        previous |= {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
