"""Models out of the network: python download_model.py --help."""

import dataclasses
import os
import sys

from ..command_line import escaping, flags, invocation
from ..model_files import download as openais
from ..model_files import fetching
from . import hub

OPENAI, HUGGING_FACE = 'openai', 'huggingface'


@dataclasses.dataclass(frozen=True)
class DownloadConfig:
    """Download OpenAI's models, 124M, 355M, 774M, 1558M, or any GPT-2 of Hugging Face."""

    names: list = flags.positional(
        metavar='NAME', nargs='*', type=str, help='A model, or several; OWNER/NAME of Hugging Face'
    )
    source: str = flags.flag(
        OPENAI,
        choices=(OPENAI, HUGGING_FACE),
        help="OpenAI's server; or Hugging Face, whose copies are converted when they have come",
    )
    models_dir: str = flags.flag('models', metavar='DIR', help='The folder of the models')
    base_url: str = flags.flag(
        openais.BASE_URL,
        metavar='URL',
        help="Where OpenAI's are: URL/models/NAME/<file>",
    )

    def __post_init__(self):
        flags.check(self)
        if self.source == HUGGING_FACE:
            if self.base_url != DownloadConfig.base_url:
                raise ValueError(
                    f'--base_url is for the source {OPENAI}; another place of {HUGGING_FACE} goes '
                    f'into the environment: HF_ENDPOINT={self.base_url}'
                )
            for name in self.names:
                hub.repository_of(name)
            return
        for name in self.names:
            if name in ('', '.', '..') or name != os.path.basename(name):
                where = f"; for Hugging Face's, --source {HUGGING_FACE}"
                where = where if hub.is_repository(name) else ''
                raise ValueError(f'{name!r} is not the name of a model{where}')


def main():
    config = flags.parse(DownloadConfig)
    if not config.names:
        program = os.path.basename(sys.argv[0])
        print(f'You must enter the model name as a parameter, e.g.: {program} 124M')
        sys.exit(1)
    failed = False
    for name in config.names:
        try:
            download(name, config.models_dir, config.source, config.base_url)
        except (ValueError, OSError) as error:
            print(escaping.printable(str(error)), file=sys.stderr)
            failed = True
    sys.exit(failed)


def download(name, models_dir, source, base_url):
    """Fetch one of the models that DownloadConfig names; returns its directory.

    Raises:
        ValueError: it is no GPT-2, or something has its name already.
        OSError: one of its files is not to be had, or cannot be written.
    """
    if source == HUGGING_FACE:
        return hub.download(name, models_dir)
    try:
        openais.download(name, models_dir, base_url)
    except fetching.ServerError as error:
        if not openais.size_of(name):
            raise
        command = f'{invocation.command("download")} {name} --source {HUGGING_FACE}'
        raise type(error)(f'{error}. Hugging Face has it too: {command}') from None
    return os.path.join(models_dir, name)
