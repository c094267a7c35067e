"""What the README.md of a folder for Hugging Face says: what is known of the model."""

import math
import os

from . import portable


def of(a_model):
    """The text of a model card."""
    sizes = vars(a_model.hparams)
    parameters = sum(map(math.prod, portable.shapes_of(a_model.hparams).values()))
    lines = [
        '---',
        'library_name: transformers',
        'pipeline_tag: text-generation',
        'tags:',
        '- gpt2',
        '---',
        f'# {os.path.basename(os.path.abspath(a_model.source))}',
        '',
        f'A GPT-2 of {parameters:,} parameters, float32.',
        '',
        '| size | |',
        '|---|---|',
        *(f'| {name} | {size} |' for name, size in sizes.items()),
        '',
        *(f'{line}\n' for line in a_model.known),
        '```python',
        'from transformers import AutoModelForCausalLM, AutoTokenizer',
        '',
        "tokenizer = AutoTokenizer.from_pretrained('.')",
        "model = AutoModelForCausalLM.from_pretrained('.')",
        "tokens = tokenizer('The', return_tensors='pt')",
        'print(tokenizer.decode(model.generate(**tokens, max_new_tokens=40)[0]))',
        '```',
    ]
    return '\n'.join(lines) + '\n'
