"""The options of train.py. No TensorFlow here, so that a mistyped flag is refused at once."""

import dataclasses
import math
import os

from ..command_line.flags import flag
from ..data import dataset_config
from ..model_files import model_directory, rotation

SIZES = ('n_layer', 'n_head', 'n_embd', 'n_ctx')

# {what transformers, nanoGPT or gpt-2-simple call it: what it is called here}
ELSEWHERE = {
    **dict.fromkeys(['model', 'model_name_or_path'], 'model_name'),
    **dict.fromkeys(['train_file', 'input', 'data'], 'dataset'),
    **dict.fromkeys(['max_iters', 'max_steps'], 'steps'),
    **dict.fromkeys(['num_train_epochs', 'num_epochs'], 'epochs'),
    **dict.fromkeys(['out_dir', 'output_dir', 'name'], 'run_name'),
    **dict.fromkeys(['init_from', 'resume_from_checkpoint', 'overwrite'], 'restore_from'),
    **dict.fromkeys(['eval_interval', 'eval_steps'], 'val_every'),
    'eval_iters': 'val_batch_count', 'validation_file': 'val_dataset',
    'save_steps': 'save_every', 'logging_steps': 'print_every', 'log_interval': 'print_every',
    'block_size': 'seq_length', 'lr': 'learning_rate', 'lr_scheduler_type': 'schedule',
    'decay_lr': 'schedule', 'min_lr': 'min_learning_rate', 'beta2': 'adam_beta2',
    **dict.fromkeys(['warmup_iters', 'num_warmup_steps'], 'warmup_steps'),
    **dict.fromkeys(['grad_clip', 'max_grad_norm'], 'clip_gradients'),
    'gradient_accumulation_steps': 'accumulate_gradients',
    'gradient_checkpointing': 'memory_saving_gradients',
    **dict.fromkeys(['per_device_train_batch_size', 'train_batch_size'], 'batch_size'),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizesConfig:
    """The sizes of a new model, for --restore_from scratch."""

    n_layer: int = flag(
        None, least=1, metavar='N', help='Layers of a new model: --restore_from scratch'
    )
    n_head: int = flag(None, least=1, metavar='N', help='Heads of attention of a new model')
    n_embd: int = flag(None, least=1, metavar='N', help='The width of a new model')
    n_ctx: int = flag(None, least=1, metavar='TOKENS', help='The window of a new model')


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What a step is made of."""

    batch_size: int = flag(1, least=1, metavar='SIZE', help='Windows in a batch, on each device')
    seq_length: int = flag(
        1024, least=2, metavar='TOKENS', help="Train on windows of this size, or n_ctx's"
    )
    accumulate_gradients: int = flag(
        1, least=1, metavar='N', help='Take the mean gradient of N batches for each step'
    )
    pack: bool = flag(
        False, help='Put many short texts, each with its end token, into each window, none cut'
    )
    document_mask: bool = flag(
        False, help='Let no text see those before it in a window, and count its positions from 0'
    )
    noise: float = flag(
        0.0, metavar='P', help='Replace each input token by a random one with this probability'
    )
    dropout: float = flag(
        0.0, metavar='P', help='Leave out each activation with this probability while training'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Which weights are trained, and in which numbers."""

    only_train_transformer_layers: bool = flag(
        False, help='Leave the embeddings and the last norm as they are'
    )
    lora_rank: int = flag(
        0,
        least=0,
        metavar='R',
        help='Train thin matrices of this rank beside the weights; 0 trains these',
    )
    lora_alpha: float = flag(
        None,
        least=0,
        metavar='A',
        help='Multiply what --lora_rank trains by A / R; by default 2 R / R',
    )
    dtype: str = flag(
        'float32',
        choices=['float32', 'bfloat16', 'float16'],
        help='Of matrix products; weights and checkpoints are float32 in any case',
    )
    memory_saving_gradients: bool = flag(
        False, help='Recompute each block for its gradient instead of remembering it'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients change them."""

    optimizer: str = flag(
        'adam',
        choices=['adam', 'adamw', 'muon', 'adafactor', 'sgd'],
        help='What makes steps of gradients',
    )
    learning_rate: float = flag(0.00002, metavar='LR', help='Learning rate')
    schedule: str = flag(
        'constant',
        choices=['constant', 'linear', 'cosine'],
        help='How the learning rate falls until the last of --steps',
    )
    warmup_steps: int = flag(0, least=0, metavar='N', help='Let the learning rate rise for N steps')
    min_learning_rate: float = flag(0.0, least=0, metavar='LR', help='Where a schedule ends')
    weight_decay: float = flag(
        None,
        least=0,
        metavar='WD',
        help='Shrink matrices by this times the learning rate; 0.01 in adamw',
    )
    adam_beta2: float = flag(
        0.999, metavar='B', help="How slowly adam, adamw and muon forget the gradients' squares"
    )
    clip_gradients: float = flag(
        0.0, least=0, metavar='NORM', help='Shorten gradients to this norm over all; 0 never does'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Validation."""

    val_every: int = flag(0, least=0, metavar='STEPS', help='Validate every N steps; 0 never does')
    val_dataset: str = flag(None, metavar='PATH', help='Text for validation; by default --dataset')
    val_split: float = flag(
        0.0, metavar='FRACTION', help='Hold out the last of the dataset for validation, such as 0.1'
    )
    val_batch_size: int = flag(2, least=1, metavar='SIZE', help='Windows in a batch of validation')
    val_batch_count: int = flag(
        40,
        least=0,
        metavar='N',
        help='Batches of validation; 0 takes all of the text, each token once',
    )
    save_best: bool = flag(
        False, help='Keep the model whose validation loss was the lowest, in the folder best'
    )
    patience: int = flag(
        0, least=0, metavar='N', help='Stop after N validations without a lower loss; 0 never does'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """Samples on the way."""

    sample_every: int = flag(
        100, least=0, metavar='N', help='Write samples every N steps; 0 never does'
    )
    sample_num: int = flag(1, least=0, metavar='N', help='How many samples')
    sample_length: int = flag(1023, least=1, metavar='TOKENS', help='The length of a sample')
    top_k: int = flag(40, least=0, help='Sample among the k likeliest tokens')
    top_p: float = flag(
        0.0, help='Sample among the likeliest tokens that reach this probability; overrides top_k'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(
    model_directory.ModelConfig,
    dataset_config.EncodingConfig,
    BatchConfig,
    WeightsConfig,
    OptimizerConfig,
    ValidationConfig,
    SamplesConfig,
    SizesConfig,
):
    """Fine-tune GPT-2 on your own text."""

    dataset: str = flag(
        metavar='PATH',
        help='A file, a directory or a glob pattern: text, tables, or what encode.py wrote',
    )
    run_name: str = flag('run1', help='The name of the folders in checkpoint/ and samples/')
    checkpoint_dir: str = flag(
        model_directory.RUNS, metavar='DIR', help='The folder of the runs, in place of checkpoint/'
    )
    restore_from: str = flag(
        'latest',
        help='latest (of the run, else the model), fresh (the model), scratch (random weights), '
        'or the path of a run or a checkpoint',
    )
    epochs: float = flag(
        0.0,
        least=0,
        metavar='N',
        help='End when the run has seen as many tokens as N times all text, or with --pack each '
        'text N times',
    )
    steps: int = flag(
        0,
        least=0,
        metavar='N',
        help='The last step of the run, however often it goes on; 0 goes on until interrupted',
    )
    save_every: int = flag(
        1000, least=0, metavar='N', help='Write a checkpoint every N steps; 0 never does'
    )
    max_checkpoints: int = flag(
        rotation.KEEP, least=0, metavar='N', help='How many checkpoints stay; 0 keeps all'
    )
    keep_earlier: bool = flag(
        False, help='Leave those from before the run went on as well, whatever their number'
    )
    print_every: int = flag(1, least=1, metavar='N', help='Print the line of every Nth step')
    seed: int = flag(
        None, least=0, help='Makes the choice of windows, noise, dropout and samples repeatable'
    )
    strategy: str = flag(
        'auto',
        choices=['auto', 'none', 'mirrored', 'multiworker'],
        help='Train on one device, on all GPUs, or on all machines of TF_CONFIG; auto finds out',
    )
    dry_run: bool = flag(False, help='Say how much memory this would take, and end')

    @property
    def sizes(self):
        """{name: size} of a new model, as far as they are given."""
        given = {name: getattr(self, name) for name in SIZES}
        return {name: size for name, size in given.items() if size is not None}

    @property
    def lora_scale(self):
        """What the products of adapters are multiplied by."""
        alpha = 2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha
        return alpha / max(1, self.lora_rank)

    @property
    def updates_at_once(self):
        """Whether the gradients of a layer are used up before those of the next are made.

        Nothing is to be known of all gradients then before the first is used.
        """
        return (
            self.memory_saving_gradients
            and self.accumulate_gradients == 1
            and not self.clip_gradients
            and self.dtype != 'float16'
        )

    def __post_init__(self):
        """Raises ValueError: a value out of its range; the message names flag and range."""
        super().__post_init__()
        for name, value in vars(self).items():
            if value == math.inf:
                raise ValueError(f'--{name} is inf; it must be a finite number')
        if self.seed is not None and self.seed >= 2**63:  # a checkpoint has no room for it
            raise ValueError(f'--seed is {self.seed}; it must be below 2**63')
        if not self.learning_rate > 0:
            raise ValueError(f'--learning_rate is {self.learning_rate}; it must be above 0')
        for name in ('adam_beta2', 'dropout'):
            if not 0 <= getattr(self, name) < 1:
                value = getattr(self, name)
                raise ValueError(f'--{name} is {value}; it must be 0 or more, below 1')
        if self.lora_alpha is not None and not self.lora_rank:
            raise ValueError('--lora_alpha says how strong adapters are; give them a --lora_rank')
        if self.steps and self.epochs:
            raise ValueError('--steps and --epochs both say where the run ends; leave out one')
        if self.schedule != 'constant' and not (self.steps or self.epochs):
            raise ValueError(f'--schedule {self.schedule} has to know its end: --steps')
        if self.schedule != 'constant' and self.min_learning_rate > self.learning_rate:
            least, most = self.min_learning_rate, self.learning_rate
            raise ValueError(f'--min_learning_rate is {least}; it must be {most}, or less')
        if not 0 <= self.top_p <= 1:
            raise ValueError(f'--top_p is {self.top_p}; it must be 0 to 1')
        if not 0 <= self.val_split < 1:
            raise ValueError(
                f'--val_split is {self.val_split}; it must be 0 or more, and less than 1'
            )
        if self.val_split and self.val_dataset:
            raise ValueError(
                '--val_split validates on a part of --dataset, --val_dataset on another text; '
                'leave out one of them'
            )
        if (self.save_best or self.patience) and not self.val_every:
            flag = 'save_best' if self.save_best else 'patience'
            raise ValueError(f'--{flag} goes by the validation loss; give --val_every as well')
        if self.sizes and self.restore_from != 'scratch':
            raise ValueError(
                f'--{" and --".join(self.sizes)} would make a new model: --restore_from scratch'
            )
        if not 0 <= self.noise <= 1:
            raise ValueError(f'--noise is {self.noise}; it must be a probability, 0 to 1')
        no_name = self.run_name in ('', os.curdir, os.pardir)
        if no_name or self.run_name != os.path.basename(self.run_name):
            raise ValueError(f'--run_name is {self.run_name!r}; it must be the name of a folder')
