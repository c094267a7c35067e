"""Tables of fields with a character between them, .csv and .tsv, to records.

How a table is written is looked up in its first lines, and only where there is no doubt: what
csv.Sniffer says of prose is a letter.
"""

import contextlib
import csv
import dataclasses
import itertools
import re

from ..command_line import escaping

KINDS = ('.csv', '.tsv')
EXCELS = re.compile(r'"?sep=(.)"?\s*')  # its own line, in front of the header
DELIMITERS = {',': 'commas', ';': 'semicolons', '\t': 'tabs', '|': 'vertical bars'}
SAMPLE = 20  # lines that are looked at,
SAMPLE_SIZE = 2**16  # or so many characters
NAME = 60  # characters that the name of a column has at most, where a delimiter is looked for
ID = re.compile(r'(.*[ _])?(id|uuid)', re.IGNORECASE)  # the names of columns of IDs
QUOTING = {'double': csv.QUOTE_MINIMAL, 'none': csv.QUOTE_NONE}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a table is written."""

    delimiter: str
    header: int | None  # the number of the row that names the columns
    columns: list
    text_column: str  # which is read when nobody names one

    def told(self, kind):
        """The layout in words; only a delimiter that is another than that of `kind`."""
        names = listed(self.columns)
        told = f'row {self.header} names' if self.header else 'no row names'
        told += f' its columns, {names}' if self.header else f' its columns, which are {names}'
        if self.delimiter != default_delimiter(kind):
            told += (
                f'; fields are separated by {DELIMITERS.get(self.delimiter, repr(self.delimiter))}'
            )
        return told


def default_delimiter(name):
    return '\t' if name.lower().endswith('.tsv') else ','


def listed(columns):
    """'a', 'b': some names in a message."""
    names = [repr(name if len(name) <= 40 else f'{name[:39]}…') for name in columns[:8]]
    return ', '.join([*names, '…'] if len(columns) > 8 else names) or 'none'


def read(name, lines, config, longest):
    """The Layout of a table, None where it is empty, and (number, {column: value}) of each row.

    Args:
        config: a dataset_config.DatasetConfig.
        longest: characters that a field may have.

    Raises ValueError: a row that cannot be read; the message names the file and the row.
    """
    csv.field_size_limit(longest)
    sample, whole, lines = _sample(lines)
    delimiter, excels = config.delimiter, EXCELS.fullmatch(sample[0]) if sample else None
    if excels and delimiter in (None, excels[1]):
        delimiter = excels[1]
        lines = itertools.islice(lines, 1, None)
        sample = sample[1:]
    parsed = {each: _parsed(sample, whole, each, config.quoting) for each in DELIMITERS}
    delimiter = delimiter or _delimiter(default_delimiter(name), parsed, config.no_header)
    rows = _rows(name, lines, delimiter, config.quoting)
    first = next(rows, None)
    if first is None:
        return None, iter(())
    seen = _parsed(sample, whole, delimiter, config.quoting)
    # gpt-2-simple leaves out the first line, whatever it is: people leave it blank.
    named = config.column or config.template
    blank = not sample[0].strip() and {len(row) for row in seen} <= {1} and not named
    number, header = first
    if config.no_header or blank:
        number, header = None, [str(n) for n in range(1, len(first[1]) + 1)]
        rows = itertools.chain([first], rows)
    _require_different(name, header)
    text_column = _text_column(header, seen[1:] if number else seen)
    return Layout(delimiter, number, header, text_column), _records(name, header, rows)


def _sample(lines):
    """Its first lines, whether these are all, and an iterator of all."""
    lines, sample, size = iter(lines), [], 0
    for line in itertools.islice(lines, SAMPLE):
        sample.append(line)
        size += len(line)
        if size > SAMPLE_SIZE:
            break
    following = list(itertools.islice(lines, 1))
    return sample, not following, itertools.chain(sample, following, lines)


def _parsed(sample, whole, delimiter, quoting):
    """The rows of a sample that are not empty, as far as they can be read."""
    rows = []
    with contextlib.suppress(csv.Error):
        rows.extend(csv.reader(sample, delimiter=delimiter, quoting=QUOTING[quoting]))
    if not whole:  # the last row may go on
        del rows[-1:]
    return [row for row in rows if any(row)]


def _delimiter(usual, parsed, no_header):
    """What is between fields: what is usual, unless only another one makes a table of the lines.

    Args:
        parsed: {delimiter: rows}.
    """
    for delimiter in sorted(parsed, key=lambda delimiter: delimiter != usual):
        rows = parsed[delimiter]
        widths = {len(row) for row in rows}
        if len(rows) > 1 and len(widths) == 1 and min(widths) > 1:
            if no_header or all(0 < len(field) <= NAME for field in rows[0]):
                return delimiter
    return usual


def _text_column(columns, rows):
    """The first column that is not of IDs, or the first."""
    for place, column in enumerate(columns):
        values = [row[place] for row in rows if len(row) == len(columns) and row[place].strip()]
        numbers = values and all(value.strip().isdecimal() for value in values)
        if not (numbers or ID.fullmatch(column.strip())):
            return column
    return columns[0]


def _rows(name, lines, delimiter, quoting):
    """(number, [field, …]) of each row that is not empty."""
    number = 0
    reader = csv.reader(lines, delimiter=delimiter, quoting=QUOTING[quoting], strict=True)
    try:
        for number, row in enumerate(reader, 1):
            if any(row):
                yield number, row
    except csv.Error as error:
        told = escaping.told(str(error))  # there may be a tab in it
        hint = '' if quoting == 'none' else '. If quotes are only characters there: --quoting none'
        raise ValueError(f'{name}: row {number + 1} cannot be read: {told}{hint}') from None


def _require_different(name, header):
    for column in header:
        if column and header.count(column) > 1:
            raise ValueError(f'{name} has two columns named {column!r}; rename one')


def _records(name, header, rows):
    """(number, {column: value}) of each row."""
    for number, row in rows:
        if len(row) != len(header):
            hint = '. If each line is a text: --line_by_line, and a name that ends in .txt'
            raise ValueError(
                f'{name}: row {number} has {len(row)} fields, but there are {len(header)} '
                f'columns, {listed(header)}; it begins with {row[0][:40]!r}'
                + hint
                * (len(header) == 1)
            )
        yield number, dict(zip(header, row, strict=True))
