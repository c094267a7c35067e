"""A page that shows what a model does with a text: python -m src attention_view --help.

In the manner of BertViz's head view and model view (Vig 2019), with the logit lens beside them.
"""

import base64
import dataclasses
import hashlib
import math
import os
import re
import sys

from .. import encoder
from ..command_line import flags
from ..data import whole_files
from ..model_files import model_directory
from ..sampling import backends, generation

PAGE = os.path.join(os.path.dirname(__file__), 'page')
SCRIPTS = (  # each imports only from those before it
    'data.js', 'tokens.js', 'colours.js', 'roving.js', 'view.js', 'text.js', 'head_view.js',
    'model_view.js', 'lens.js', 'page.js',
)  # fmt: skip
MOST_BYTES = 2**25  # of attention, before it is packed
STYLES = ('page.css', 'views.css')


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionViewConfig(model_directory.ModelConfig):
    """Write a page that shows where each head of a model looks in a text, and what it makes of it.

    One file for a browser: lines between tokens, all heads small, and what each layer would say.
    """

    text: str = flags.flag(help='What the model shall read')
    out: str = flags.flag(metavar='FILE.html', help='The new file')

    def __post_init__(self):
        """Raises ValueError: no text, or a file that is there already or cannot be."""
        flags.check(self)
        if not self.text:
            raise ValueError('--text is empty; it must be at least one character')
        if os.path.lexists(self.out):
            raise ValueError(f'{self.out} is there already, and stays as it is; name a new --out')
        if not os.path.isdir(os.path.dirname(self.out) or os.curdir):
            raise ValueError(f'there is no folder to write {self.out} into; make it first')


def main():
    attention_view(flags.parse(AttentionViewConfig))


def attention_view(config):
    """Write the page that `config` says, and name it on stderr.

    Raises:
        ValueError: no such model, or a text that is too long or not in the vocabulary.
        OSError: a file cannot be read or written.
    """
    directory, prefix = model_directory.checkpoint_of(config.model_name, config.models_dir)
    enc = encoder.get_encoder('', directory)
    ids = enc.encode_to_numpy(config.text).tolist()
    require_room(len(ids), model_directory.sizes(directory))  # before TensorFlow loads
    lm = backends.load(directory, engine='tensorflow', prefix=prefix)
    model_directory.require_vocabulary(directory, enc.decoder, lm.hparams.n_vocab)
    require_room(len(ids), vars(lm.hparams))
    from . import contents

    name = os.path.basename(os.path.abspath(directory))
    with whole_files.complete(config.out) as file:
        told = contents.contents(generation.Loaded(lm, enc), name, ids)
        file.write(page(contents.as_json(told)).encode())
    print('Wrote', config.out, file=sys.stderr)


def page(told):
    """The page as one text, with `told`, the JSON of contents.py, in it.

    What is of the user is in that JSON alone, and is never read as HTML: the header lets no other
    script run than ours, and nothing be loaded.
    """
    style = '\n'.join(map(_read, STYLES))
    script = '\n'.join(re.sub(r'^import .*\n|^export ', '', _read(s), flags=re.M) for s in SCRIPTS)
    allowed = f"script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:"
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; {allowed}"
    parts = {
        'policy': f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        'style': f'<style>{style}</style>',
        'data': f'<script type="application/json" id="data">{told}</script>',
        'script': f'<script type="module">{script}</script>',
    }
    return re.sub('<!-- (policy|style|data|script) -->', lambda m: parts[m[1]], _read('index.html'))


def require_room(tokens, sizes):
    """Raise ValueError where a text has more tokens than the window, or a page, of such a model.

    Args:
        sizes: {'n_ctx': …, 'n_layer': …, 'n_head': …}; where they are not known, nothing is said.
    """
    known = [sizes.get(name) for name in ('n_ctx', 'n_layer', 'n_head')]
    if not all(type(size) is int and size > 0 for size in known):
        return
    n_ctx, heads = known[0], known[1] * known[2]
    most = math.isqrt(2 * MOST_BYTES // heads)
    if tokens > n_ctx:
        raise ValueError(f'--text is {tokens} tokens; the window of this model is {n_ctx}')
    if tokens > most:
        raise ValueError(
            f'--text is {tokens} tokens; of a model with {heads} heads in all its layers, a page '
            f'has room for {most}: give a shorter one'
        )


def _read(name):
    with open(os.path.join(PAGE, name), encoding='utf-8') as file:
        return file.read()


def _hash(text):  # as Content-Security-Policy has it
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
