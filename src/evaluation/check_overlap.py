"""How much samples repeat of a text, word for word: python -m src check_overlap --help.

Words are runs of letters or of digits; every other character is a word of its own, and so is every
character of a script that puts no spaces between words. White space does not count, so that no line
break hides a copy.
"""

import array
import bisect
import dataclasses

import numpy as np
import regex
import tqdm

from .. import encoder
from ..command_line import escaping, flags
from ..data import text_files, token_files
from ..model_files import model_directory
from . import suffix_automaton

SIZES = (4, 8, 13)  # words, of the n-grams that are counted
SPANS = 10  # how many are shown,
SHOWN = 80  # and how many characters of each

ALONE = r'[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]'
# The separator, and the lines that the trainer and the scripts write above each sample.
BETWEEN = r'<\|endoftext\|>|^=+ SAMPLE \d+ =+$'
WORD = regex.compile(
    rf'[[\p{{L}}\p{{M}}]--{ALONE}]+|\p{{N}}+|{ALONE}\p{{M}}*|(?P<between>{BETWEEN})|\S',
    regex.MULTILINE | regex.VERSION1,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverlapConfig(model_directory.ModelConfig):
    """Find what samples repeat, word for word, of the text that a model was trained on."""

    samples: str = flags.positional(metavar='SAMPLES', help='A file, a directory or a glob pattern')
    dataset: str = flags.positional(
        metavar='DATASET', help='The same, of the training text; or .npz of encode.py'
    )
    encoding: str = flags.flag('utf-8', help='The encoding of the texts')


def main():
    check(flags.parse(OverlapConfig))


def check(config):
    """Print which of the samples' n-grams of words the dataset has, and the longest common spans.

    Raises:
        ValueError: nothing there, or not text in that encoding, or no such vocabulary.
        OSError: a file cannot be read.
    """
    samples, dataset = Texts(), Texts()
    vocabulary, numbers, texts = {}, [], {}
    for name, text in texts_of(config.samples, config):
        texts[name] = text
        for word in samples.words(name, text):
            new = len(vocabulary) if word else -len(numbers) - 1  # each break is like nothing else
            numbers.append(vocabulary.setdefault(word, new) if word else new)
    if not vocabulary:
        raise ValueError(f'There is no text in {config.samples}')
    automaton = suffix_automaton.SuffixAutomaton(numbers)
    for name, text in texts_of(config.dataset, config):
        automaton.read(vocabulary.get(word) for word in dataset.words(name, text))
    longest = list(automaton.longest())
    print('words', ngrams(numbers, 1))
    for size in SIZES:
        found, total = sum(length >= size for length, _ in longest), ngrams(numbers, size)
        print(f'{size}-grams {found} of {total} ({found / max(1, total):.1%})')
    for place, length, there in spans(longest):
        name, begin = samples.place(place)
        _, last = samples.place(place + length - 1)
        end = WORD.match(texts[name], last).end()
        dataset_name, dataset_begin = dataset.place(there)
        print(
            f'{length} words, {end - begin} characters, at {begin} in {name} and at '
            f'{dataset_begin} in {dataset_name}: {shortened(texts[name][begin:end])}'
        )


def texts_of(path, config):
    """(name, text) of each file; of what encode.py wrote, of all chunks with breaks between."""
    paths, silent = text_files.files_of(path), tqdm.tqdm(disable=True)
    if any(path.endswith(token_files.KINDS) for path in paths):
        directory = model_directory.find(
            config.model_name, config.models_dir, model_directory.VOCABULARY
        )
        enc = encoder.get_encoder('', directory)
    for path in paths:
        if path.endswith(token_files.KINDS):
            chunks = token_files.read(path, enc, silent)
            chunks = (chunk.astype(np.int32) for chunk in chunks)  # ~id is below 0
            texts = (enc.decode(np.maximum(ids, ~ids).tolist()) for ids in chunks)
            yield text_files.shown(path), encoder.END_OF_TEXT.join(texts)
        else:
            for name, blocks in text_files.texts_of(path, config.encoding, silent):
                yield name, ''.join(blocks)


class Texts:
    """Where the words of some texts are."""

    def __init__(self):
        self.names, self.firsts = [], []  # of each text, and the number of its first word
        self.starts = array.array('Q')  # of each word: its character, counted from 0 in its text

    def words(self, name, text):
        """The words of a text, which is added to these; None for what no span goes across."""
        self.names.append(name)
        self.firsts.append(len(self.starts))
        bar = tqdm.tqdm(total=len(text), desc=name, unit_scale=True, delay=2, leave=False)
        with bar:
            for match in WORD.finditer(text):
                self.starts.append(match.start())
                if len(self.starts) % 2**16 == 0:
                    bar.update(match.start() - bar.n)
                yield None if match.lastgroup else match[0]
        self.starts.append(len(text))
        yield None

    def place(self, number):
        """The name of the text that has this word, and the character with which it begins."""
        return self.names[bisect.bisect_right(self.firsts, number) - 1], self.starts[number]


def ngrams(numbers, size):
    """How many spans of `size` words there are that go across no break."""
    total = run = 0
    for number in numbers:
        run = run + 1 if number >= 0 else 0
        total += run >= size
    return total


def spans(longest):
    """(place, length, place in the dataset) of the longest spans, each of them once.

    Args:
        longest: (length, end in the dataset) for each word of the samples, of the longest span
            that ends with it.
    """
    found = {}
    for end, (length, there) in enumerate(longest):
        goes_on = end + 1 < len(longest) and longest[end + 1][0] > length
        if length >= SIZES[0] and not goes_on:
            found.setdefault((length, there), end)
    best = sorted(found.items(), key=lambda item: (-item[0][0], item[1]))[:SPANS]
    return [(end - length + 1, length, there - length + 1) for (length, there), end in best]


def shortened(text):
    """The text in one line, without its middle where it is long."""
    text = escaping.printable(' '.join(text.split()))
    if len(text) <= SHOWN:
        return text
    return f'{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}'
