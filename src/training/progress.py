"""What a run shows while it goes on, and what it leaves: loss.csv, loss.png, and events."""

import contextlib
import csv
import os
import sys
import time

import tqdm

from ..command_line import escaping
from ..evaluation import evaluate
from . import events

COLUMNS = [
    'step', 'seconds', 'loss', 'average', 'val_loss', 'learning_rate', 'gradient_norm',
    'tokens_per_second',
]  # fmt: skip
LINE_EVERY = 60  # seconds, where there is no terminal to draw a bar on


class Progress:
    """Of one process of a run; closed at the end of a `with`.

    Args:
        directory: the run's. loss.csv grows there; a run that goes on adds to it.
        first: the number of the first step.
        last: that of the last one; 0 where there is none.
    """

    def __init__(self, directory, first, last):
        self.events = events.Writer(directory)
        self.path = path_in(directory)
        self.first, self.last = first, last
        self.start = self.told = time.time()

    def show(self):
        """A step begins. Until `hide`, nobody prints."""

    def hide(self):
        """It has ended."""

    def line(self, text):
        """Print one of the lines of Shepperd's train.py."""
        print(text, flush=True)

    def batches(self, iterable, number):
        """The same iterable, of `number` batches of validation, shown as it is used up."""
        return tqdm.tqdm(iterable, total=number, position=0)

    def validated(self, loss):
        """Say what a validation loss means, beside the line that says it."""
        print(f'validation perplexity = {evaluate.perplexity(loss):.2f}', file=sys.stderr)

    def step(self, counter, seconds, tokens, took, **scalars):
        """Tell of a step; what is drawn of it comes later, so that lines may follow.

        Args:
            seconds: since the start.
            tokens: that the step was made of.
            took: its own seconds.
            scalars: loss, average, learning_rate, gradient_norm.
        """
        speed = tokens / max(took, 1e-9)
        self.write(counter, seconds, tokens_per_second=speed, **scalars)
        self.tell(counter, scalars['loss'], speed)

    def tell(self, counter, loss, speed):
        """Say now and then, where nothing else is shown, how far it is."""
        if time.time() - self.told < LINE_EVERY:
            return
        self.told = time.time()
        of_all = left = ''
        if self.last:
            for_each = (self.told - self.start) / (counter - self.first + 1)
            of_all = f' of {self.last}'
            left = f', {tqdm.tqdm.format_interval(for_each * (self.last - counter))} left'
        text = f'step {counter}{of_all}: loss={loss:.2f}, {speed:.0f} tokens/s{left}'
        print(text, file=sys.stderr)

    def write(self, counter, seconds, average=None, **scalars):
        """Record numbers of a step, in loss.csv and for TensorBoard."""
        self.events.add(counter, **scalars)
        row = {'step': counter, 'seconds': f'{seconds:.2f}', 'average': average, **scalars}
        try:
            with open(self.path, 'a+b') as binary:
                torn = _is_torn(binary)
            with open(self.path, 'a', encoding='ascii', newline='') as file:
                writer = csv.DictWriter(file, COLUMNS)
                if not file.tell():
                    writer.writeheader()
                if torn:  # by a process that was killed, or a full disk
                    file.write('\r\n')
                writer.writerow(row)
        except OSError as error:  # a curve with a gap is better than a run that ends
            print(error, file=sys.stderr)

    def samples(self, counter, texts):
        """Record samples for TensorBoard."""
        self.events.add_texts(counter, samples=texts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.events.close()
        try:
            plot(self.path)
        except (OSError, ValueError, OverflowError) as error:
            print(f'There is no new picture of the losses: {error}', file=sys.stderr)


class TerminalProgress(Progress):
    """With a bar in the last line of a terminal."""

    def __init__(self, directory, first, last):
        super().__init__(directory, first, last)
        total = last - first + 1 if last else None
        self.bar = tqdm.tqdm(total=total, unit='step', leave=False, desc='compiling')
        self.bar.clear()

    def show(self):
        self.bar.refresh()

    def hide(self):
        self.bar.clear()

    def tell(self, counter, loss, speed):
        if counter == self.first:  # how long it was compiled is no measure of what is left
            self.bar.set_description_str(refresh=False)
            self.bar.start_t, self.bar.initial = time.time(), 1
        self.bar.n += 1  # not `update`, which may draw
        self.bar.set_postfix_str(f'loss={loss:.2f}, {speed:.0f} tokens/s', refresh=False)

    def __exit__(self, *arguments):
        self.bar.close()
        super().__exit__(*arguments)


class Silence:
    """What stands for Progress where another worker shows and writes it."""

    def tell(self, *arguments, **scalars):
        pass

    show = hide = line = validated = step = write = samples = __exit__ = tell

    def __enter__(self):
        return self


def shown(directory, first, last):
    """The Progress that suits what stderr is."""
    return (TerminalProgress if sys.stderr.isatty() else Progress)(directory, first, last)


def path_in(directory):
    return os.path.join(directory, 'loss.csv')


def _is_torn(file):
    """Whether the last line of a file has no end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    return bool(size) and file.read() != b'\n'


def curves(path):
    """{'loss': {step: loss}, 'average': …, 'val_loss': …} of a loss.csv.

    A line that was cut off says nothing: its last number may be another one than was meant.

    Raises ValueError: it is damaged.
    """
    curves = {'loss': {}, 'average': {}, 'val_loss': {}}
    try:
        with open(path, encoding='ascii', newline='') as file:
            for row in csv.DictReader(whole_lines(file)):
                if None in (*row, *row.values()):  # too many fields, or too few
                    continue
                for name, curve in curves.items():
                    if row[name]:  # a step that was made again counts as it was the last time
                        curve[int(row['step'])] = float(row[name])
    except (ValueError, KeyError, csv.Error) as error:
        raise ValueError(f'{path} is damaged: {escaping.told(str(error))}') from None
    return curves


def whole_lines(file):
    return (line for line in file if line.endswith('\n'))


def drawn(curves):
    """A matplotlib figure of these curves."""
    from matplotlib import figure  # here: training needs its memory for other things

    picture = figure.Figure(figsize=(8, 5), layout='constrained')
    axes = picture.add_subplot(xlabel='step', ylabel='loss in nats')
    for (name, curve), style in zip(curves.items(), ('.', '-', 'o-'), strict=True):
        if curve:
            axes.plot(list(curve), list(curve.values()), style, markersize=3, label=name)
    axes.legend()
    return picture


def plot(path):
    """Draw the losses of a loss.csv as loss.png beside it."""
    losses = curves(path)
    if not any(losses.values()):
        return
    png = os.path.join(os.path.dirname(path), 'loss.png')
    try:
        drawn(losses).savefig(f'{png}.new', format='png')
        os.replace(f'{png}.new', png)
    finally:
        with contextlib.suppress(OSError):
            os.remove(f'{png}.new')
