"""Models out of the network: python download_model.py --help."""

import dataclasses
import os
import sys

from ..command_line import escaping, flags
from ..model_files import download as openais


@dataclasses.dataclass(frozen=True)
class DownloadConfig:
    """Download OpenAI's models: 124M, 355M, 774M, 1558M."""

    names: list = flags.positional(metavar='NAME', nargs='*', type=str, help='A model, or several')
    models_dir: str = flags.flag('models', metavar='DIR', help='The folder of the models')
    base_url: str = flags.flag(
        openais.BASE_URL,
        metavar='URL',
        help='Where they are: URL/models/NAME/<file>',
    )

    def __post_init__(self):
        for name in self.names:
            if name in ('', '.', '..') or name != os.path.basename(name):
                raise ValueError(f'{name!r} is not the name of a model')


def main():
    config = flags.parse(DownloadConfig)
    if not config.names:
        program = os.path.basename(sys.argv[0])
        print(f'You must enter the model name as a parameter, e.g.: {program} 124M')
        sys.exit(1)
    failed = False
    for name in config.names:
        try:
            openais.download(name, config.models_dir, config.base_url)
        except OSError as error:
            print(escaping.printable(str(error)), file=sys.stderr)
            failed = True
    sys.exit(failed)
