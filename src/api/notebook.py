"""What a run shows in a notebook: one bar, the last numbers and a plot, which change in place."""

import base64
import html
import io
import sys
import time

import tqdm

from ..evaluation import evaluate
from ..training import progress

DRAWN_EVERY = 5  # seconds; a plot takes a tenth of one


def is_one():
    """Whether this is the kernel of a notebook, which shows more than text."""
    shell = sys.modules.get('IPython') and sys.modules['IPython'].get_ipython()
    return hasattr(shell, 'kernel')


class Progress(progress.Progress):
    """progress.Progress for a notebook; the lines of steps are in the plot instead."""

    def __init__(self, directory, first, last):
        super().__init__(directory, first, last)
        from IPython import display

        self.drawn, self.text, self.picture = 0.0, 'compiling the first step', ''
        self.counter, self.compiled = first - 1, None
        self.validation = ''  # what it last said
        self.shown = display.display(self._html(), display_id=True)

    def line(self, text):
        """What it says is shown already."""

    def validated(self, loss):
        self.validation = f' · validation {loss:.2f}, perplexity {evaluate.perplexity(loss):.1f}'

    def batches(self, iterable, number):
        before = self.text
        for done, batch in enumerate(iterable):
            self.text = f'{before} · validation {done} of {number}'
            self._draw()
            yield batch
        self.text = before

    def tell(self, counter, loss, speed):
        now = time.time()
        self.compiled = self.compiled or now  # when the first step was done
        made = counter - self.first
        self.counter, left = counter, ''
        if self.last and made:
            left = (now - self.compiled) / made * (self.last - counter)
            left = f' · {tqdm.tqdm.format_interval(left)} left'
        self.text = f'loss {loss:.2f}{self.validation} · {speed:.0f} tokens/s{left}'
        self._draw()

    def __exit__(self, *arguments):
        super().__exit__(*arguments)
        self._draw(last=True)

    def _draw(self, last=False):
        if not last and time.time() - self.drawn < DRAWN_EVERY and self.picture:
            return
        self.drawn = time.time()
        self.picture = self._plot()
        self.shown.update(self._html())

    def _html(self):
        from IPython import display

        ratio = ''
        if self.last:
            ratio = f'max="{self.last - self.first + 1}" value="{self.counter - self.first + 1}"'
        step = f'step {self.counter} of {self.last}' if self.last else f'step {self.counter}'
        text = html.escape(f'{step} · {self.text}')
        return display.HTML(f'<progress {ratio}></progress> {text}<br>{self.picture}')

    def _plot(self):
        """The losses so far as an <img>; '' where there are none, or they cannot be read."""
        try:
            losses = progress.curves(self.path)
        except (OSError, ValueError, KeyError):  # no step has been made, or a line was cut off
            return ''
        png = io.BytesIO()
        progress.drawn(losses).savefig(png, format='png', dpi=72)
        code = base64.b64encode(png.getvalue()).decode('ascii')
        return f'<img alt="loss by step" src="data:image/png;base64,{code}">'
