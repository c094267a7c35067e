"""The commands as functions. TensorFlow is loaded by those that compute, when they do.

What the commands tell in one line is raised: a ValueError for what cannot be meant, an OSError for
files and servers.
"""

import dataclasses
import os

from ..command_line import flags, quiet
from ..converting import download_model
from ..encoding import encode
from ..model_files import download as openais
from ..model_files import model_directory
from ..sampling import generation
from ..training import run_directory, train_config
from .language_model import LanguageModel


def download(
    model_name: str, models_dir: str = 'models', source: str = download_model.OPENAI
) -> str:
    """Fetch OpenAI's model of that name, with a bar on stderr; returns its directory.

    What is there already, and whole, is left as it is; what was cut off goes on where it ended.

    Args:
        source: openai, or huggingface, where model_name may also be any OWNER/NAME that is a
            GPT-2; its directory is models_dir/NAME.

    Raises:
        ValueError: this cannot be the name of a model, or it is no GPT-2.
        OSError: the server does not have it, or it cannot be written.
    """
    download_model.DownloadConfig([model_name], source)  # refuses what is no name
    return download_model.download(model_name, models_dir, source, openais.BASE_URL)


def encode_dataset(path: str, out: str, **options: object) -> None:
    """Write the tokens of text: `gpt2 encode PATH OUT`.

    Args:
        path: a file, a directory or a glob pattern.
        out: the .npz or .npy to be written.
        options: the flags of the command, see encode.EncodeConfig.

    Raises:
        ValueError: an option that does not exist or cannot be that, no text, no such vocabulary.
        OSError: a file cannot be read or written.
    """
    encode.encode(flags.filled(encode.EncodeConfig, {'path': path, 'out_npz': out, **options}))


def load(
    model_name: str = model_directory.DEFAULT,
    *,
    models_dir: str = 'models',
    adapters: str | None = None,
    engine: str = 'auto',
    dtype: str | None = None,
) -> LanguageModel:
    """The model of that name, of that run, or in that directory.

    Args:
        adapters: the path of a model-N.adapters.npz, what --lora_rank taught this model.
        engine: what computes: tensorflow, litert (what `export` wrote), or auto, which is litert
            where that is up to date.
        dtype: of the weights: float32, bfloat16, float16, or int8 for litert.

    Raises:
        ValueError: no such model, or files that are damaged or do not fit together.
        OSError: a file cannot be read.
    """
    return LanguageModel(generation.load(model_name, models_dir, adapters, engine, dtype))


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """What a run has come to."""

    directory: str  # a model's: load takes it
    losses: dict[int, float]  # of each step, in nats for each token
    val_losses: dict[int, float]  # of those steps before which it was validated

    def load(self, **options: str) -> LanguageModel:
        """The model as it was saved last; the options are those of gpt2.load."""
        return load(self.directory, **options)


def finetune(dataset: str, **options: object) -> Finetuned:
    """Fine-tune a model on text: `gpt2 train --dataset DATASET`.

    In a notebook a bar and a plot grow in place; elsewhere the lines of the command are printed.
    Ctrl-C, or interrupting the kernel, ends the run after the step, saved; the same call goes on.

    Args:
        dataset: text, tables, or what `encode_dataset` wrote: a file, a directory or a pattern.
        options: the flags of the command, see train_config.TrainConfig: model_name, run_name,
            steps, learning_rate, …

    Raises:
        ValueError: an option that does not exist or cannot be that, no such model, no text, too
            little memory; nothing on disk has changed then.
        OSError: a checkpoint could not be written.
    """
    config = flags.filled(train_config.TrainConfig, {'dataset': dataset, **options})
    quiet.import_tensorflow()
    from ..training import progress, training
    from . import notebook

    training.train(config, notebook.Progress if notebook.is_one() else progress.shown)
    directory = run_directory.of(config)
    path = progress.path_in(directory)
    losses = {'loss': {}, 'val_loss': {}}
    if os.path.exists(path):  # a dry run makes none
        losses = progress.curves(path)
    return Finetuned(directory, losses['loss'], losses['val_loss'])
