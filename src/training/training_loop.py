"""The loop of a run: what is done in each step, and when."""

import contextlib
import math
import os
import sys
import time

import numpy as np

from .. import load_dataset, model
from ..command_line import streams
from ..gradients import lora
from ..model_files import checkpoint
from ..sampling import generation, sample_config
from . import (
    distribution,
    progress,
    run_directory,
    saving,
    schedule,
    stopping,
    train_step,
    validation,
)

SKIPS = 5  # steps in a row whose loss is not a number, before a run ends


def window_of(sampler, config, purpose):
    """How many tokens to read at once; says so where the text is shorter than it should be.

    Args:
        purpose: what the text is for, 'training' or 'validation'.
    """
    if sampler.longest >= config.seq_length:
        return config.seq_length
    if sampler.longest < 2:
        raise ValueError(
            f'The {purpose} text has no two tokens in a row; there is nothing to predict'
        )
    print(
        f'The longest {purpose} text has {sampler.longest} tokens; {purpose} windows have as '
        f'many instead of {config.seq_length}',
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
        self.saver = saving.Saver(config, state, initial.files())
        self.chunks = dataset.chunks
        self.window = window_of(state.sampler, config, 'training')
        self.has_learnt = False  # as much as it can, by --patience
        self.train_step = train_step.compiled(state, config, self.window, devices, self.states[1:])
        if config.val_every:
            sampler = load_dataset.Sampler(dataset.val_chunks, seed=1)
            window = self.window
            # With --pack, windows to train on may be longer than any text.
            if dataset.val_chunks is not dataset.chunks or config.pack:
                window = window_of(sampler, config, 'validation')
            self.validation = validation.Validation(state.lm, config, sampler, window, state.end)

    def resume(self, prefix):
        """Go on behind `prefix` if it is this run's; otherwise begin, with empty directories."""
        if run_directory.goes_on(self.config, prefix):
            self.state.counter = checkpoint.counter_of(prefix) + 1
            tensors = checkpoint.load_state(prefix)
            if tensors:
                self.devices.on_each(lambda i: self.states[i].restore(tensors, prefix))
            else:
                print(f'{prefix} has no state; the optimizer starts anew', file=sys.stderr)
            of_all = f' of {self.last_step()}' if self.last_step() else ''
            print(f'continuing at step {self.state.counter}{of_all}', file=sys.stderr)
        elif self.devices.is_chief:
            run_directory.set_aside(self.config)
        self.devices.require_same('The number of updates', int(self.state.updates))

    def last_step(self):
        """The number of the run's last step, by --steps or --epochs; 0 where there is none."""
        if not self.config.epochs:
            return self.config.steps
        accumulated, batch, _ = self.train_step.input_signature[0].shape
        windows = self.state.sampler.windows_in(self.config.epochs, self.window)
        return math.ceil(windows / (accumulated * batch))

    def loop(self):
        """Make the steps that are left, and save at their end, whatever ends them."""
        first, last = self.state.counter, self.last_step()
        self.last = last
        if self.config.epochs:
            accumulated, batch, window = self.train_step.input_signature[0].shape
            size = f'{accumulated * batch} windows of {window} tokens'
            print(f'{self.config.epochs:g} epochs are {last} steps of {size}', file=sys.stderr)
        if last and first > last:
            print(
                f'The run has made its {last} steps; it goes on with more --steps', file=sys.stderr
            )
            return
        self.skipped = 0
        self.start_time = time.time()
        shown = self.shown if self.devices.is_chief else lambda *_: progress.Silence()
        with shown(run_directory.of(self.config), first, last) as self.progress:
            unheard = None
            try:
                self.make_steps(last)
            except OSError as error:  # of files `_going_on` tells: what is printed is not heard
                unheard = error
                streams.silence()
            if self.state.counter > first:
                self.save(self.state.counter - 1, True)
        self.devices.of_all(0)  # a worker that left would look as if it had been lost
        if unheard:
            raise unheard

    def make_steps(self, last):
        """Decides when; the methods know how. The order within a step is Shepperd's."""
        with stopping.stop_requests() as self.stop:
            while True:
                counter = self.state.counter
                self.do_what_is_due(counter, last)
                self.step()
                # on any of the workers: 1 for the first reason, 2 for the other
                reasons = self.devices.of_all(self.stop.is_set() + 2 * self.has_learnt)
                if counter == last or any(reasons):
                    break
        if any(reason % 2 for reason in reasons):
            print('interrupted')

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
            with _going_on((OSError, ValueError)):  # the model may say nothing that is a number
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
        counter, state.counter = state.counter, state.counter + 1
        finite, too_large = np.isfinite(loss + norm), np.isfinite(loss) and scale > 1
        if self.devices.is_chief:
            with _going_on():
                self.saver.tried(finite or too_large)
        self.progress.step(
            counter, self.seconds(), batches.size, took,
            loss=loss, average=average, learning_rate=learning_rate, gradient_norm=norm,
        )  # fmt: skip
        self.count_skipped(counter, finite, too_large)
        if counter % config.print_every == 0:
            self.progress.line(
                f'[{counter} | {self.seconds():2.2f}] loss={loss:2.2f} avg={average:2.2f}'
            )

    def count_skipped(self, counter, finite, scale_was_too_large):
        """Raise ValueError when several steps in a row could not be made."""
        if not finite and scale_was_too_large:
            print(
                f'Step {counter} is skipped: its gradient is too large for float16; '
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
                f'Step {counter} is skipped: its loss or gradient is not a number',
                file=sys.stderr,
            )

    def seconds(self):
        return time.time() - self.start_time

    @distribution.chief_alone
    def save(self, counter, ends=False):
        self.saver.save(counter, ends)

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
            controls=sample_config.PLAIN.controls(self.encoder, self.state.lm.hparams.n_vocab),
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
        self.progress.line('Calculating validation loss...')
        self.validation.shown = self.progress.batches
        loss = self.validation.loss(self.stop)
        if loss is None:
            return
        self.progress.write(self.state.counter, self.seconds(), val_loss=loss)
        self.progress.line(
            f'[{self.state.counter} | {self.seconds():2.2f}] validation loss = {loss:2.2f}'
        )
        self.progress.validated(loss)
        if np.isfinite(loss):
            self.saver.validated_at(self.state.counter)
        if validation.is_best(self.state, loss) and self.config.save_best:
            with _going_on():
                self.saver.save_best()
        self.has_learnt = validation.has_learnt(self.state, self.config.patience)


def _due(counter, every):
    return every and counter % every == 0


@contextlib.contextmanager
def _going_on(errors=OSError):
    """Say what went wrong on the way, and let the training go on."""
    try:
        yield
    except errors as error:
        print(f'{error}. Training goes on', file=sys.stderr)
