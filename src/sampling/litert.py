"""A .tflite of export.py at work: tokens to the logits of the next, without TensorFlow.

Its signatures, `prefill` for a prompt and `decode` for one token more, are two names of one graph
that reads n tokens after a past: both see one cache, and the weights are laid out once. (With a
graph for each, a process with 124M took 1.7 instead of 1.3 GB.) Axes are those of model.py; a
window is the room for the past.

    tokens, positions  [n] int32
    last               [m, n], in each row 1 at a token whose logits are wanted
    mask_past          [n, window], 0 where a token (dst) may look at the past (src), else MASKED;
                       [1, window] where that is the same for all
    mask_new           [n, n], 0 where a token (dst) may look at another (src), else MASKED
    k0, v0, k1, …      [heads, window, features], the past of each layer
→   logits             [m, vocab]
    new_k0, new_v0, …  [heads, n, features], what this step adds to the past
    n_ctx              [] int32

n and window are changed at will: that plans memory anew, and leaves the weights as they are. The
caller writes what is new into the past where it lies, so that no step copies that.
"""

import os
import struct
import types
import zlib

import numpy as np

from ..command_line import invocation, quiet
from ..data import processes

INSTALLATION = 'pip install ai-edge-litert'
if invocation.PACKAGE == 'src':  # a checkout, which knows the versions
    INSTALLATION = 'pip install -r requirements-litert.txt'

SEAL = struct.Struct('<4sIQ')  # a mark, the CRC-32 of the graph, its length
SIGNATURES = ('prefill', 'decode')
DTYPES = ('float32', 'int8')
MASKED = np.float32(-1e10)  # as in model.multihead_attn
CHUNK = 128  # tokens of a prompt that are read at once: more need more memory and save no time
WINDOW_STEP = 64  # windows are multiples of this: smaller ones move the past more often


def path_of(prefix, dtype):
    """Where the .tflite of the checkpoint `prefix` lies."""
    return f'{prefix}.{dtype}.tflite'


def current(prefix, dtype):
    """The path of the checkpoint's .tflite, or None where there is none or it is of older weights.

    An exported file is dated like the weights in it.
    """
    path = path_of(prefix, dtype)
    if not (os.path.isfile(path) and os.path.isfile(f'{prefix}.index')):
        return None
    return path if os.path.getmtime(path) >= os.path.getmtime(f'{prefix}.index') else None


class Graph:
    """A file that is open: memory for its inputs and outputs, by their names, and what it computes.

    Attributes:
        memory, results: {name: a function that gives the memory as an array}, until `plan` is next.
        past: {k0, v0, …: (heads, features)}.
        hparams: the sizes of the model that are asked for: n_ctx, n_vocab.
    """

    def __init__(self, path, threads=None):
        """Open the file `path`; `threads` is how many work on it, by default one on each core.

        Raises:
            OSError: the file cannot be read.
            ValueError: the package ai-edge-litert is missing, or the file is not of this kind.
        """
        self.path, self.threads = path, threads
        with quiet.held():  # each time, it tells which delegate it has created
            self._interpreter = _opened(path, threads or processes.cores())
            try:
                self._look_inside()
            except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
                reason = str(error).partition('\n')[0]
                raise ValueError(f'{path} is damaged: {reason}') from None

    def _look_inside(self):
        """Find the tensors by their names, and plan memory for a first step."""
        runner = self._interpreter.get_signature_runner('decode')
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        del runner  # while it refers to the memory, that cannot be planned anew
        tensor = self._interpreter.tensor  # gives a function that gives the memory as an array
        self._index = {name: details['index'] for name, details in inputs.items()}
        self.memory = {name: tensor(index) for name, index in self._index.items()}
        self.results = {name: tensor(details['index']) for name, details in outputs.items()}
        shapes = {name: details['shape_signature'].tolist() for name, details in inputs.items()}
        names = (result.removeprefix('new_') for result in outputs)
        self.past = {name: (shapes[name][0], shapes[name][2]) for name in names if name in inputs}
        self.plan(1, 1, WINDOW_STEP)
        self.hparams = types.SimpleNamespace(
            n_ctx=int(self.results['n_ctx']()), n_vocab=self.results['logits']().shape[-1]
        )

    def plan(self, n, wanted, window):
        """Plan memory for steps of n tokens, with a past of zeros.

        Args:
            wanted: how many of their logits are given; the rows of `last` choose them.
        """
        shapes = {'tokens': [n], 'positions': [n], 'last': [wanted, n], 'mask_new': [n, n]}
        shapes['mask_past'] = [1 if wanted == 1 else n, window]
        for name, (heads, features) in self.past.items():
            shapes[name] = [heads, window, features]
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._index[name], shape)
        self._interpreter.allocate_tensors()
        for name in self.past:
            self.memory[name]()[:] = 0  # masked, but it has to be numbers

    def run(self):
        self._interpreter.invoke()


class LiteRT:
    """A model and what it has read.

    Attributes:
        hparams: the sizes of the model that are asked for: n_ctx, n_vocab.
        length: how many tokens it has read.
        graph: its Graph.
        slots: the litert_slots.Slots for several texts, once they were asked for.
    """

    def __init__(self, path, threads=None):
        """As Graph."""
        self.graph = Graph(path, threads)
        self.hparams, self.slots = self.graph.hparams, None
        self._memory, self._results = self.graph.memory, self.graph.results
        self.length, self._shape, self._begun = 0, None, None

    def start(self, tokens):  # [sequence], a list -> [vocab]
        """Forget what was read, read at least one token, and give the logits of the next.

        What was started from last is not read again, so that many samples of one prompt read it
        once. The last token is read by itself in any case: the logits are the same to the last bit.
        """
        *before, last = tokens
        if before != self._begun or not self._shape:
            self.length, self._shape, self._begun = 0, None, None  # whatever was interrupted
            for first in range(0, len(before), CHUNK):
                self.read(before[first : first + CHUNK])
            self._begun = before
        self.cut(len(before))
        return self.read([last])

    def step(self, token):  # [] -> [vocab]
        """Read one token more, and give the logits of the next."""
        return self.read([token])

    def cut(self, length):
        """Forget all but the first `length` tokens."""
        assert 0 <= length <= self.length
        if length < len(self._begun or []):
            self._begun = None
        self.length = length
        self._memory['mask_past']()[:, length:] = MASKED

    def empty_past(self):
        """Room for what is read, to `save` and `load` it: {name: [heads, n_ctx, features]}."""
        past, n_ctx = self.graph.past, self.hparams.n_ctx
        return {name: np.empty([h, n_ctx, f], np.float32) for name, (h, f) in past.items()}

    def save(self, past, begin):
        """Write to such a `past` what was read from the token `begin` on."""
        for name, kept in past.items():
            kept[:, begin : self.length] = self._memory[name]()[:, begin : self.length]

    def load(self, past, length):
        """Go on as if the first `length` tokens of such a `past` were what was read."""
        self.cut(0)
        self.length = length
        self._fit(1, past)
        self._memory['mask_past']()[:, :length] = 0

    def read(self, tokens):  # [n], a list -> [vocab]
        """Read up to CHUNK tokens more, and give the logits behind the last."""
        n, past = len(tokens), self.length
        if past + n > (n_ctx := self.hparams.n_ctx):
            raise ValueError(f'{past} and {n} tokens do not fit into the window of {n_ctx}')
        self._fit(n)
        self._memory['tokens']()[:] = tokens
        self._memory['positions']()[:] = np.arange(past, past + n)
        self.graph.run()
        for name in self.graph.past:
            self._memory[name]()[:, past : past + n] = self._results[f'new_{name}']()
        self._memory['mask_past']()[:, past : past + n] = 0
        self.length += n
        return self._results['logits']()[0].copy()

    def _fit(self, n, past=None):
        """Plan memory for a step of n tokens, with room for them in the past.

        Args:
            past: in place of what is in memory, as of `load`.
        """
        window = -(-(self.length + n) // WINDOW_STEP) * WINDOW_STEP
        if (n, window) != self._shape:
            if past is None and self.length:  # planning loses what is in memory
                names = self.graph.past
                past = {name: self._memory[name]()[:, : self.length].copy() for name in names}
            self._plan(n, window)
        for name, kept in (past or {}).items():
            self._memory[name]()[:, : self.length] = kept[:, : self.length]

    def _plan(self, n, window):
        self._shape = None
        self.graph.plan(n, 1, window)
        self._memory['last']()[:] = np.arange(n) == n - 1
        self._memory['mask_past']()[:] = np.where(np.arange(window) < self.length, 0, MASKED)
        self._memory['mask_new']()[:] = np.triu(np.full([n, n], MASKED), 1)
        self._shape = n, window


def seal(graph):
    """The last bytes of a file, by which damage to its graph is found before that is read."""
    return SEAL.pack(b'GPT2', zlib.crc32(graph), len(graph))


def _require_seal(path):
    made = f'{invocation.command("export")} --format litert'
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - SEAL.size))
        last = file.read()
        length = SEAL.unpack(last)[2] if last.startswith(b'GPT2') else size
        file.seek(0)
        if length > size or seal(file.read(length)) != last:
            raise ValueError(f'{path} is damaged, or was not made by this version of: {made}')


def _opened(path, threads):
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        raise ValueError(f'{path} needs a package more: {INSTALLATION}') from None
    _require_seal(path)
    try:
        opened = interpreter.Interpreter(path, num_threads=threads)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f'{path} is damaged: {str(error).splitlines()[0]}') from None
    return opened
