"""`gpt_2_simple finetune TEXT` and `gpt_2_simple generate`, with gpt-2-simple's flags."""

import dataclasses
import datetime
import itertools
import os
import sys

import tqdm

from ..command_line import flags, names
from ..command_line.flags import flag
from ..data import text_files
from ..model_files import model_directory
from . import downloading, finetuning, generating, session


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """What only finetune knows."""

    model_name: str = flag('124M', help='finetune: the model, which is downloaded if need be')
    model_dir: str = flag('models', help='finetune: the folder of the models')
    steps: int = flag(-1, help='finetune: how many steps; -1 goes on until interrupted')
    restore_from: str = flag('latest', help='finetune: latest, fresh, or the path of a run')
    sample_every: int = flag(1000000, help='finetune: print a sample every N steps')
    save_every: int = flag(100, help='finetune: write a checkpoint every N steps')
    print_every: int = flag(10, help='finetune: print the loss every N steps')
    optimizer: str = flag('adam', help='finetune: adam or sgd')
    overwrite: bool = flag(False, help='finetune: let checkpoints of earlier calls go')
    encoding: str = flag('utf-8', help='finetune: of the text')
    column: str = flag(None, help='finetune: of a table, to read')
    no_header: bool = flag(False, help='finetune: the first row of a table is a text')
    quoting: str = flag('double', help='finetune: none, where quotes of a table are characters')


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """What only generate knows."""

    nfiles: int = flag(1, least=0, help='generate: how many files')
    nsamples: int = flag(1, help='generate: how many texts in each')
    folder: str = flag('gen', help='generate: where they go, beside what is there')
    length: int = flag(generating.LENGTH, help='generate: tokens behind the prefix, at most')
    temperature: float = flag(0.7, help='generate: below 1 keeps to what is likely')
    top_k: int = flag(0, help='generate: only the k likeliest tokens are considered')
    top_p: float = flag(0.0, help='generate: only the likeliest that reach this probability')
    batch_size: int = flag(1, help='generate: how many texts are worked on at once')
    prefix: str = flag(None, help='generate: what each text begins with')
    truncate: str = flag(None, help='generate: the text at which a text ends')
    include_prefix: bool = flag(True, help='generate: whether the prefix stays in front')
    sample_delim: str = flag(generating.DELIMITER, help='generate: what is behind each text')


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandConfig(FinetuneConfig, GenerateConfig):
    """The flags; those of the other mode are allowed, and mean nothing."""

    run_name: str = flag('run1', help='the name of the run')
    checkpoint_dir: str = flag('checkpoint', help='the folder of the runs')
    multi_gpu: bool = flag(True, help='train on all GPUs')

    def __post_init__(self):
        flags.check(self)

    def of(self, mode_class):
        """{name: value} of the flags of a mode."""
        names = [field.name for field in dataclasses.fields(mode_class)]
        names += ['run_name', 'checkpoint_dir', 'multi_gpu']
        return {name: getattr(self, name) for name in names}


def cmd():
    """The command gpt_2_simple."""
    flags.run(flags.call_from_command_line, start, ['mode', 'dataset'], CommandConfig)


def start(mode=None, dataset=None, *, config):
    """gpt_2_simple finetune TEXT: fine-tune GPT-2 on text. gpt_2_simple generate: write texts.

    Args:
        mode: finetune or generate
        dataset: finetune: text, a table, or what encode_dataset wrote
    """
    unused = {'finetune': GenerateConfig, 'generate': FinetuneConfig}
    if mode not in unused:
        meant = names.nearest(mode, unused) if mode else ''
        raise ValueError(
            f'The mode is {mode}; type gpt_2_simple finetune TEXT, or gpt_2_simple generate{meant}'
        )
    for field in dataclasses.fields(unused[mode]):
        if getattr(config, field.name) != field.default:
            print(f'{mode} does not use --{field.name}', file=sys.stderr)
    if mode == 'generate':
        cmd_generate(**config.of(GenerateConfig))
    elif dataset is None:
        raise ValueError('finetune needs a text: gpt_2_simple finetune TEXT')
    else:
        cmd_finetune(dataset, **config.of(FinetuneConfig))


def cmd_finetune(
    dataset,
    run_name,
    checkpoint_dir,
    model_name,
    model_dir,
    steps,
    restore_from,
    sample_every,
    save_every,
    print_every,
    optimizer,
    overwrite,
    multi_gpu,
    **options,
):
    """Fine-tune, with the model downloaded where it is one of OpenAI's and not there."""
    text_files.files_of(dataset)  # before a gigabyte is fetched
    known = model_name in (*model_directory.SIZES, *model_directory.ALIASES)
    if known and not downloading.is_gpt2_downloaded(model_dir, model_name):
        downloading.download_gpt2(model_dir, model_name)
    finetuning.finetune(
        session.start_tf_sess(),
        dataset,
        run_name=run_name,
        checkpoint_dir=checkpoint_dir,
        model_name=model_name,
        model_dir=model_dir,
        steps=steps,
        restore_from=restore_from,
        sample_every=sample_every,
        save_every=save_every,
        print_every=print_every,
        optimizer=optimizer,
        overwrite=overwrite,
        multi_gpu=multi_gpu,
        **options,
    )


def cmd_generate(
    nfiles,
    nsamples,
    folder,
    length,
    temperature,
    batch_size,
    prefix,
    truncate,
    include_prefix,
    sample_delim,
    run_name,
    checkpoint_dir,
    top_k,
    top_p,
    multi_gpu,
):
    """Write files of texts into a folder, in which what is there stays."""
    options = {
        'nsamples': nsamples,
        'batch_size': batch_size,
        'length': length,
        'temperature': temperature,
        'top_k': top_k,
        'top_p': top_p,
    }
    generating.check(prefix, None, seed=None, **options)
    sess = session.start_tf_sess()
    session.load_gpt2(sess, run_name=run_name, checkpoint_dir=checkpoint_dir)
    os.makedirs(folder, exist_ok=True)
    if os.listdir(folder):
        print(f'What is in {folder} stays; new files come beside it', file=sys.stderr)
    for _ in tqdm.trange(nfiles):
        generating.generate_to_file(
            sess,
            run_name=run_name,
            checkpoint_dir=checkpoint_dir,
            destination_path=_new_path(folder),
            prefix=prefix,
            truncate=truncate,
            include_prefix=include_prefix,
            sample_delim=sample_delim,
            **options,
        )


def _new_path(folder):
    """folder/gpt2_gentext_<the time in UTC>.txt, with a number where that is there already."""
    now = datetime.datetime.now(datetime.timezone.utc)
    name = f'gpt2_gentext_{now:%Y%m%d_%H%M%S}'
    named = itertools.chain([name], (f'{name}_{n}' for n in itertools.count(2)))
    paths = (os.path.join(folder, f'{each}.txt') for each in named)
    return next(path for path in paths if not os.path.exists(path))
