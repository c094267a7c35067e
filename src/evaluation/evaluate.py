"""How good a model is: python -m src evaluate --help.

The loss of a text is the mean over its tokens, all but the first, of -log p in nats, given the
tokens before them as far as the model's window reaches (Radford et al. 2019, section 3.1).
"""

if not __package__:  # started by its path: belong to the package all the same
    import importlib.util
    import os
    import sys

    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..')))
    __spec__ = importlib.util.find_spec('src.evaluation.evaluate')
    __package__ = __spec__.parent

import dataclasses
import json
import math
import os

import numpy as np
import tqdm

from .. import load_dataset
from ..command_line import flags
from ..data import dataset_config, text_files, whole_files
from ..model_files import model_directory
from ..sampling import sample_numpy
from . import cloze

TOKENS = 2048  # read at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(model_directory.ModelConfig, dataset_config.DatasetConfig):
    """Say how well a model predicts a text, or which of several texts it expects."""

    dataset: str = flags.flag(
        None, metavar='PATH', help='A file, a directory or a glob pattern: text, or .npz'
    )
    combine: int = flags.flag(
        0,
        least=0,
        metavar='CHARS',
        help='Join files into texts of at least this size; by default none knows of another',
    )
    stride: int = flags.flag(
        None,
        least=1,
        metavar='TOKENS',
        help='By how much the window slides; less gives each token more context and takes longer; '
        'by default half the window',
    )
    surprisal: str = flags.flag(
        None, metavar='FILE.jsonl', help='Write what each token costs into a new file'
    )
    choices: str = flags.flag(
        None, metavar='FILE', help='Questions instead of a dataset: which text follows a context'
    )
    task: str = flags.flag('choices', choices=list(cloze.TASKS), help='The format of --choices')

    def __post_init__(self):
        """Raises ValueError: flags that do not fit together."""
        super().__post_init__()
        if bool(self.dataset) == bool(self.choices):
            raise ValueError('give either --dataset or --choices')
        for name in ('surprisal', 'stride', 'template', 'column'):
            if getattr(self, name) and not self.dataset:
                raise ValueError(f'--{name} is for a --dataset, and means nothing for --choices')
        if self.surprisal and os.path.lexists(self.surprisal):
            raise ValueError(f'{self.surprisal} is there already; give another --surprisal')
        if not os.path.isdir(os.path.dirname(self.surprisal or '') or os.curdir):
            raise ValueError(f'there is no folder to write {self.surprisal} into; make it first')
        if self.task != 'choices' and not self.choices:
            raise ValueError(f'--task {self.task} needs its file: --choices FILE')


def main():
    evaluate(flags.parse(EvaluateConfig))


def evaluate(config):
    """Print what `config` asks for, `name value` in each line.

    Raises:
        ValueError: no such model or text, or the text is not what it should be.
        OSError: a file cannot be read or written.
    """
    questions = cloze.read(config.choices, config.task, config.encoding) if config.choices else []
    if config.dataset:
        text_files.found(config.dataset)
    from ..sampling import generation  # here, so that a mistake is told before TensorFlow loads

    loaded = generation.load(config.model_name, config.models_dir, engine='tensorflow')
    if questions:
        tell(of_questions(loaded, questions))
        return
    enc, n_ctx = loaded.encoder, loaded.lm.hparams.n_ctx
    if config.stride and config.stride >= n_ctx:
        raise ValueError(f'--stride is {config.stride}; for this model it must be 1 to {n_ctx - 1}')
    chunks = load_dataset.load_dataset(enc, config.dataset, **config.dataset_options())
    costs = costs_of(loaded.lm, chunks, config.stride)
    tell(numbers_of(enc, chunks, costs))
    if config.surprisal:
        write_surprisal(config.surprisal, enc, chunks, costs)


def tell(numbers):
    for name, value in numbers.items():
        print(name, f'{value:.6g}' if isinstance(value, float) else value, flush=True)


def numbers_of(enc, chunks, costs):
    """{name: number}: loss in nats, perplexity, bits_per_byte, and how many tokens.

    Args:
        costs: what `costs_of` gave for the chunks.
    """
    size = bytes_of(enc)
    loss = np.mean(costs, dtype=np.float64)
    bits = loss * len(costs) / math.log(2)
    return {
        'loss': loss,
        'perplexity': perplexity(loss),
        'bits_per_byte': bits / sum(int(size[counted(chunk)].sum()) for chunk in chunks),
        'tokens': len(costs),
    }


def costs_of(lm, chunks, stride=None, function=None):
    """What each of the tokens that are `counted` costs in nats, [tokens] float32.

    Args:
        stride: by how much windows slide; None is half the model's.
        function: likelihood.compiled(lm), for several calls with texts of different lengths.
    """
    import tensorflow as tf

    from .. import sample
    from . import likelihood

    n_ctx = lm.hparams.n_ctx
    window = width = min(n_ctx, max(map(len, chunks)))
    batch_size = max(1, TOKENS // window)
    if not any(len(counted(chunk)) for chunk in chunks):
        raise ValueError('The dataset has no two tokens in a row; there is nothing to predict')
    if function:
        # Of few shapes, since each is compiled.
        width, batch_size = sample.window_for(window, n_ctx), 1
    evaluated, costs = function or likelihood.compiled(lm), []
    windows = likelihood.sliding(chunks, window, min(stride or max(1, n_ctx // 2), window - 1))
    total = sum(len(counted(chunk)) for chunk in chunks)
    brief = {'delay': 2, 'leave': False} if function else {}
    with tqdm.tqdm(total=total, unit=' tokens', **brief) as bar:
        for tokens, new in likelihood.batches(windows, batch_size, width):
            costs.append(evaluated(tf.constant(tokens)).numpy()[new])
            bar.update(len(costs[-1]))
    if np.isnan(np.concatenate(costs)).any():
        raise ValueError(sample.NO_NUMBERS)
    return np.concatenate(costs)


def counted(chunk):  # [tokens] -> [some tokens]
    """The tokens that are predicted: all but the first, and what is not to be learnt."""
    return chunk[1:][chunk[1:] >= 0]


def perplexity(loss):
    return math.exp(loss) if loss < 700 else math.inf  # exp(710) is more than a float holds


def bytes_of(enc):
    """How many bytes of text each id stands for, [ids]; each character of a token is one."""
    sizes = np.zeros(max(enc.decoder) + 1, np.int64)
    for number, token in enc.decoder.items():
        sizes[number] = len(token)
    return sizes


def write_surprisal(path, enc, chunks, costs):
    """A line of JSON for each token: id, text, surprisal in nats; null where it is not counted."""
    costs = iter(costs.tolist())
    if os.path.lexists(path):  # by now
        raise FileExistsError(f'{path} is there already, and stays as it is')
    with whole_files.complete(path) as file:
        for chunk in chunks:
            for place, token in enumerate(chunk.tolist()):
                cost = round(next(costs), 6) if place and token >= 0 else None
                token = max(token, ~token)
                line = {'id': token, 'text': enc.decode([token]), 'surprisal': cost}
                file.write(f'{json.dumps(line, ensure_ascii=False)}\n'.encode())


def of_questions(loaded, questions):
    """Print a line of JSON for each question, the log-probability of each choice and the best one.

    A single choice is right when the model would have said it by itself, the likeliest token each
    time. {name: number} of those that have an answer: how many, accuracy, and where each has a
    single choice, the perplexity of these (Radford et al. 2019, section 3.3).
    """
    from . import likelihood

    reader = likelihood.Reader(loaded.lm)
    rights, answers = [], []
    for question in tqdm.tqdm(questions, unit=' questions'):
        context, choices = tokens_of(loaded, question)
        read = list(reader.read(context, choices))
        logprobs = [float(np.sum(logs, dtype=np.float64)) for logs, _ in read]
        if not np.isfinite(logprobs).all():
            raise ValueError(sample_numpy.NO_NUMBERS)
        best = int(np.argmax(logprobs))
        line = {'logprobs': [round(each, 6) for each in logprobs], 'best': best}
        if len(choices) == 1:
            line['greedy'] = bool(read[0][1].all())
        tqdm.tqdm.write(json.dumps(line))
        if question.answer is not None:
            rights.append(line.get('greedy', best == question.answer))
            answers.append(logprobs[question.answer])
    numbers = {'questions': len(questions)}
    if rights:
        numbers['accuracy'] = float(np.mean(rights))
    if rights and all(len(question.choices) == 1 for question in questions):
        numbers['perplexity'] = perplexity(-np.mean(answers))
    return numbers


def tokens_of(loaded, question):
    """The ids of a question's context, and those of each choice, which together fit the window.

    Context and choice are encoded together. Where that joins the end of the context with a choice
    into one token, the token counts as the choice's. The context loses what is too long at its
    left; one that is empty is `<|endoftext|>`.

    Raises ValueError: a choice that leaves no room for a context, or has unknown characters.
    """
    from ..sampling import generation

    enc, n_ctx = loaded.encoder, loaded.lm.hparams.n_ctx
    texts = [question.context, *(question.context + choice for choice in question.choices)]
    try:
        context, *both = [enc.encode_to_numpy(text).tolist() for text in texts]
        shared = len(os.path.commonprefix([context, *both]))
        context = context[:shared] or [generation.end_of_text(enc)]
    except ValueError as error:
        raise ValueError(f'{question.where}: {error}') from None
    choices = [ids[shared:] for ids in both]
    room = n_ctx - max(map(len, choices))
    if room < 1:
        raise ValueError(
            f'{question.where} has a choice of {n_ctx - room} tokens; it must be less than the '
            f'window of {n_ctx}, so that there is a context'
        )
    return context[-room:], choices


if __name__ == '__main__':
    flags.run(main)
