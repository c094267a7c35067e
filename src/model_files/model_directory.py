"""Which directory a model's name means.

A model directory holds OpenAI's files: hparams.json, encoder.json, vocab.bpe, and a TensorFlow
checkpoint. A run directory of the trainer holds the same, so its path is a model's name as well.
"""

import codecs
import contextlib
import dataclasses
import json
import ntpath
import os
import re
import sys

from ..command_line import flags, invocation

# OpenAI renamed its two smaller models when it counted their parameters again, as the README of
# openai/gpt-2 says; the weights are the same.
ALIASES = {'117M': '124M', '124M': '117M', '345M': '355M', '355M': '345M'}
SIZES = ('124M', '355M', '774M', '1558M')

VOCABULARY = ('encoder.json', 'vocab.bpe')
ARCHITECTURE = ('hparams.json', *VOCABULARY)
WHOLE = (*ARCHITECTURE, 'checkpoint')

SHIPPED = 'shakespeare'  # the small model in this repository
MODELS, RUNS = 'models', 'checkpoint'  # folders of these

# A line of the file `checkpoint`, and the quotes around a name in it.
NAMED, QUOTES = r'(?:all_)?model_checkpoint_paths?\s*:\s*(.*)', r'^["\'“”]|["\'“”]$'

NEW_SIZES = '--restore_from scratch --n_layer 4 --n_head 4 --n_embd 128 --n_ctx 64'


class DefaultName(str):
    """The name of a model that nobody typed: the one model that is there may stand in for it."""


DEFAULT = DefaultName('124M')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model."""

    model_name: str = flags.flag(
        DEFAULT, metavar='MODEL', help='Its name, that of a run, or its directory'
    )
    models_dir: str = flags.flag(MODELS, metavar='DIR', help='The folder of the models')


def find(model_name, models_dir=MODELS, needs=WHOLE):
    """The path of a model's directory that has all the files in `needs`.

    Tried in turn: `models_dir/model_name`, where `models` is also that of the checkout; the run of
    that name, in `checkpoint`; the folder of its alias; `model_name` as a path; and where nobody
    typed the name, the only model that is there. Whatever is used in place of what was typed is
    named on stderr, and so is what else has that name. Where only the vocabulary is needed, any
    size that OpenAI released will do, because all share it. The model that ships is found from
    everywhere, and only by its name.

    Raises:
        ValueError: no such directory, or files missing in it; the message says what to type.
    """
    models_dir = os.path.expanduser(os.path.expandvars(models_dir))
    # JSON-minded tools may pass numbers on; a name is text.
    model_name = model_name if isinstance(model_name, str) else str(model_name)
    typed = os.path.join(models_dir, model_name)
    namesakes = [path for path in _namesakes(model_name, models_dir) if has(path, needs)]
    for path in [*namesakes, *_stand_ins(model_name, models_dir, needs)]:
        if has(path, needs):
            if path not in (typed, model_name):
                print(f'{typed} is not there; using {path}', file=sys.stderr)
            if others := [other for other in namesakes if not os.path.samefile(other, path)]:
                print(f'{path} is meant, and not {" or ".join(others)}', file=sys.stderr)
            return path
    raise ValueError(_nothing_found(typed, model_name, models_dir, needs))


def _namesakes(model_name, models_dir):
    """The paths of models and runs of that name, best first."""
    for folder in (*_folders(models_dir), RUNS, *_in_checkout(RUNS)):
        yield os.path.join(folder, model_name)


def _folders(models_dir):
    """Where models lie: in `models_dir`, and where it is `models`, in that of the checkout too."""
    return [models_dir, *(_in_checkout(MODELS) if models_dir == MODELS else [])]


def _in_checkout(folder):
    """The path of a folder of the checkout, in a list; none where the package is installed."""
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    root, name = os.path.split(package)
    return [os.path.join(root, folder)] if name == 'src' else []


def _stand_ins(model_name, models_dir, needs):
    """Paths that may serve in place of `models_dir/model_name`, best first."""
    folders = _folders(models_dir)
    if model_name in ALIASES:
        yield from (os.path.join(folder, ALIASES[model_name]) for folder in folders)
    if os.sep in model_name or model_name in (os.curdir, os.pardir):
        yield model_name
    if isinstance(model_name, DefaultName):
        there = _others(models_dir, needs)
        if len(there) == 1:
            yield from (os.path.join(folder, there[0]) for folder in folders)
    if model_name == SHIPPED:
        yield _shipped()
    if set(needs) <= set(VOCABULARY) and model_name in (*SIZES, *ALIASES):
        for name in (*SIZES, *ALIASES):
            yield from (os.path.join(folder, name) for folder in folders)


def names(folder, needs=WHOLE):
    """The names of the models in `folder` that have all the files in `needs`, sorted."""
    if not os.path.isdir(folder):
        return []
    return sorted(n for n in os.listdir(folder) if has(os.path.join(folder, n), needs))


def _others(models_dir, needs):
    """The names of the models that are there, but for the one that ships."""
    there = {name for folder in _folders(models_dir) for name in names(folder, needs)}
    return sorted(there - {SHIPPED})


def _shipped():
    """The path of the model in this repository, or in the installed package."""
    for folder in _in_checkout(MODELS):
        return os.path.join(folder, SHIPPED)
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    return os.path.join(package, MODELS, SHIPPED)


def checkpoint_of(model_name, models_dir=MODELS):
    """(directory, prefix) of a model as `find` has it, or of one of its checkpoints, run1/model-5.

    Raises ValueError: as `find`, or a directory that has no such checkpoint.
    """
    folder, name = os.path.split(str(model_name).removesuffix('.index'))
    if re.match(r'model[-.]', name) and folder:
        for directory in (*_namesakes(folder, models_dir), folder):
            if os.path.isfile(os.path.join(directory, f'{name}.index')):
                return directory, os.path.join(directory, name)
            if has(directory, ARCHITECTURE):
                found = (re.fullmatch(r'(model[-.].*)\.index', n) for n in os.listdir(directory))
                there = ', '.join(sorted(each[1] for each in found if each)) or 'no checkpoint'
                raise ValueError(f'{directory} has no {name}; it has {there}')
    directory = find(model_name, models_dir)
    return directory, latest(directory)


def latest(directory):
    """The prefix of the checkpoint that `directory/checkpoint` names, or None where none is named.

    Files may have been copied together with their `checkpoint` file: a path that led elsewhere
    is looked for in `directory`, and where the latest did not come along, the one before it.
    """
    latest_name, *kept = named(directory) or _the_only_one(directory) or [None]
    for name in filter(None, [latest_name, *reversed(kept)]):
        for prefix in (name, os.path.basename(name), ntpath.basename(name)):
            if os.path.exists(os.path.join(directory, f'{prefix}.index')):
                return os.path.join(directory, prefix)
    return latest_name and os.path.join(directory, latest_name)


def named(directory):
    """What the file `checkpoint` names: the latest, then all that are kept, oldest first."""
    path = os.path.join(directory, 'checkpoint')
    if not os.path.exists(path):
        return []
    with open(path, 'rb') as file:
        content = file.read(2**20)
    # Editors of other systems leave marks, other quotes, and spaces behind them.
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode('utf-16' if is_utf_16 else 'utf-8-sig', errors='replace')
    lines = (re.fullmatch(NAMED, line.strip()) for line in text.split('\n'))
    names = [re.sub(QUOTES, '', line[1]) for line in lines if line]
    if not names:
        raise ValueError(f'{path} names no checkpoint; it should say model_checkpoint_path: "…"')
    return names


def _the_only_one(directory):
    """The name of OpenAI's checkpoint where the file `checkpoint` was not copied with it."""
    alone = os.path.exists(os.path.join(directory, 'model.ckpt.index'))
    return ['model.ckpt'] if alone else []


def has(path, needs):
    """Whether all the files in `needs` are in the folder `path`."""
    return not _missing(path, needs)


def _missing(path, needs):
    """The files in `needs` that are not in the folder `path`, nor can be done without."""
    missing = [name for name in needs if not os.path.isfile(os.path.join(path, name))]
    return [] if missing == ['checkpoint'] and _the_only_one(path) else missing


def sizes(directory):
    """What hparams.json says, a dict, for whoever has no TensorFlow to check it; else {}."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        with open(os.path.join(directory, 'hparams.json'), encoding='utf-8-sig') as file:
            told = json.loads(file.read(2**16))
            return told if isinstance(told, dict) else {}
    return {}


def require_vocabulary(directory, ids, n_vocab):
    """Raise ValueError where a vocabulary has ids for which a model has no room."""
    if max(ids) >= n_vocab:
        raise ValueError(
            f'{os.path.join(directory, "encoder.json")} has {len(ids)} tokens, up to {max(ids)}, '
            f'and the model beside it has {n_vocab}: they are of two models. Put the encoder.json '
            'and vocab.bpe there with which it was trained'
        )


def _nothing_found(typed, model_name, models_dir, needs):
    path = next((p for p in (typed, model_name) if os.path.isdir(p)), None)
    missing = _missing(path, needs) if path else []
    problem = f'{path} has no {" and no ".join(missing)}' if path else f'There is no {typed}'
    if missing == ['hparams.json'] and not has(path, ['checkpoint']):  # a vocabulary
        return f'{problem}. Give a new model its sizes: {NEW_SIZES}'
    others, released = _others(models_dir, needs), model_name in (*SIZES, *ALIASES)
    choice = dict.fromkeys([*others, *names(RUNS, needs), SHIPPED])
    choice = f'one with --model_name: {", ".join(choice)}'
    if others and (isinstance(model_name, DefaultName) or not released):
        return f'{problem}. Choose {choice}'
    download = f'{invocation.command("download")} {model_name if released else DEFAULT}'
    return f'{problem}. Download a model: {download}, or choose {choice}'
