"""gpt2 COMMAND; in a checkout, python -m src COMMAND."""

import importlib
import sys

from .command_line import flags, invocation, names

# {command: (the module whose main() reads the rest of the command line, what --help says of it)}
COMMANDS = {
    'download': ('converting.download_model', "download OpenAI's models"),
    'encode': ('encoding.encode', 'encode text once, to train on it often'),
    'train': ('training.train', 'fine-tune a model on text'),
    'sample': ('generate_unconditional_samples', 'print samples'),
    'interact': ('interactive_conditional_samples', 'ask for prompts, and continue them'),
    'evaluate': ('evaluation.evaluate', 'how well a model predicts a text'),
    'attention_view': ('inside.attention_view', 'a page that shows what a model does with a text'),
    'export': ('exporting.export', 'write a model for LiteRT or TensorFlow Serving'),
    'serve': ('serving.serve', 'give a model to others: an API and a page'),
    'convert': ('converting.convert', 'from and to Hugging Face, nanoGPT and GGUF'),
    'train_encoder': ('encoding.train_encoder', 'make a vocabulary of texts'),
    'check_overlap': ('evaluation.check_overlap', 'how much of a text samples repeat'),
}


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else ''
    if name in ('--help', '-h'):
        print(explanation())
    elif name == '--version':
        print(__package__, importlib.import_module(__package__).__version__)
    elif name in COMMANDS:
        start(name)
    else:
        program, known = invocation.command('COMMAND'), ', '.join(sorted(COMMANDS))
        complaint = f'There is no command {name!r}. Type: {program}; COMMAND is {known}'
        print(complaint + names.nearest(name, COMMANDS), file=sys.stderr)
        sys.exit(2)


def start(name):
    invocation.begin(name)
    module, _ = COMMANDS[name]
    importlib.import_module(f'.{module}', __package__).main()


def explanation():
    program = invocation.command('COMMAND')
    lines = [f'  {name:16}{text}' for name, (_, text) in COMMANDS.items()]
    return '\n'.join([f'usage: {program} …', '', *lines, '', f'{program} --help: its flags'])


def run():
    """What the command `gpt2` calls."""
    flags.run(main)


if __name__ == '__main__':
    run()
