"""The options of a dataset, which several commands have in common. No TensorFlow here."""

import dataclasses

from ..command_line import flags
from ..command_line.flags import flag
from . import tables, text_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """How text is read and encoded."""

    combine: int = flag(
        50000,
        least=0,
        metavar='CHARS',
        help='Join input files, with <|endoftext|> between them, into chunks of at least this size',
    )
    encoding: str = flag(
        'utf-8', help='The encoding of the text, and of the samples written while training'
    )
    literal_endoftext: bool = flag(
        False, help='Read <|endoftext|> as seven ordinary tokens, as the original did'
    )
    column: str = flag(
        None, metavar='NAME', help='The column of a table to read; the first, or text in .jsonl'
    )
    template: str = flag(
        None, metavar='TEXT', help='Several columns as one text, as "{title}\\n{body}"'
    )
    no_header: bool = flag(
        False, help='The first row of a .csv or .tsv is a text; columns are 1, 2, …'
    )
    quoting: str = flag(
        'double',
        choices=['double', 'none'],
        help='Quotes of a .csv or .tsv are around fields, or only characters',
    )
    delimiter: str = flag(
        None,
        metavar='CHARACTER',
        help='What is between the columns of a .csv or .tsv; without it, what its lines look like',
    )
    line_by_line: bool = flag(False, help='Each line of a text file is a text of its own')
    start_token: str = flag(
        '<|startoftext|>', metavar='TOKEN', help='What is in front of each row of a table, or line'
    )
    end_token: str = flag('<|endoftext|>', metavar='TOKEN', help='What is behind it')
    loss_on: str = flag(
        'all',
        choices=['all', 'completion'],
        help='Learn all tokens, or those from the last column of --template on',
    )

    def dataset_options(self):
        """What load_dataset.load_dataset takes of them: {name: value}."""
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(DatasetConfig)
        }

    def __post_init__(self):
        """Raises ValueError: a value out of its range; the message names flag and range."""
        flags.check(self)
        text_files.require_encoding(self.encoding)
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ValueError(
                f"--delimiter is {self.delimiter!r}; it must be one character, as ';' or $'\\t'"
            )
        if self.template is not None:
            tables.parsed(self.template)
            if self.column:
                raise ValueError('--column is one column, --template takes several; leave out one')
        elif self.loss_on == 'completion':
            raise ValueError(
                '--loss_on completion is the last column of a template: --template "{question} '
                '{answer}"'
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodingConfig(DatasetConfig):
    """Tokens that the model has not learnt yet."""

    special_tokens: str = flag(
        '',
        metavar='TOKENS',
        help='Texts that shall be one token each, behind the vocabulary, with commas between',
    )
