"""`import gpt_2_simple as gpt2`: the names of gpt-2-simple 0.8.1, and what they do, on this engine.

docs/gpt_2_simple.md says what is the same. `python -m gpt_2_simple` is the command.
"""

from gpt2.simple.command_line import cmd, cmd_finetune, cmd_generate
from gpt2.simple.datasets import encode_csv, encode_dataset
from gpt2.simple.downloading import (
    download_file_with_progress,
    download_gpt2,
    is_gpt2_downloaded,
)
from gpt2.simple.drive import (
    copy_checkpoint_from_gdrive,
    copy_checkpoint_to_gdrive,
    copy_file_from_gdrive,
    copy_file_to_gdrive,
    get_tarfile_name,
    is_mounted,
    mount_gdrive,
)
from gpt2.simple.finetuning import finetune
from gpt2.simple.generating import generate, generate_to_file
from gpt2.simple.session import get_available_gpus, load_gpt2, reset_session, start_tf_sess

__all__ = [
    'cmd',
    'cmd_finetune',
    'cmd_generate',
    'copy_checkpoint_from_gdrive',
    'copy_checkpoint_to_gdrive',
    'copy_file_from_gdrive',
    'copy_file_to_gdrive',
    'download_file_with_progress',
    'download_gpt2',
    'encode_csv',
    'encode_dataset',
    'finetune',
    'generate',
    'generate_to_file',
    'get_available_gpus',
    'get_tarfile_name',
    'is_gpt2_downloaded',
    'is_mounted',
    'load_gpt2',
    'mount_gdrive',
    'reset_session',
    'start_tf_sess',
]

if __name__ == '__main__':
    cmd()
