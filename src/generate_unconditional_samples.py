#!/usr/bin/env python3
"""Print samples that begin from nothing, without end or `nsamples` of them."""

if not globals().get('__spec__'):  # started by path: start again as a module of its package
    import os
    import runpy
    import sys

    sys.path[0] = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    runpy.run_module('src.generate_unconditional_samples', run_name='__main__')
    sys.exit()

from . import flags, model_directory


def sample_model(
    model_name=model_directory.DEFAULT,
    seed=None,
    nsamples=0,
    batch_size=1,
    length=None,
    temperature=1,
    top_k=0,
    top_p=1,
    models_dir='models',
    adapters=None,
):
    """Run the sample_model.

    Args:
        model_name: String, which model to use, or the path of its directory
        seed: Integer seed; the same seed gives the same samples
        nsamples: Number of samples to print; 0 (default) goes on until it is interrupted
        batch_size: Number of samples to work on at once (only affects speed and memory)
        length: Number of tokens in a sample; if None (default), the model's window
        temperature: Float that divides the logits: below 1 keeps to what is likely, above 1
            strays from it, and 0 always takes the likeliest token
        top_k: Integer; only the k likeliest tokens are considered, 40 is a good value; 0 (default)
            considers all
        top_p: Float; only the likeliest tokens that together reach this probability are
            considered, after top_k; off at 0 and 1
        models_dir: path to the parent folder of the models' own
        adapters: String, the path of a model-N.adapters.npz that train.py --lora_rank wrote, to
            be added to the model's weights
    """
    from . import generation  # here, so that a mistyped flag is refused before TensorFlow loads

    texts = generation.generate(
        generation.load(model_name, models_dir, adapters),
        length=length,
        nsamples=nsamples,
        batch_size=batch_size,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    for number, text in enumerate(texts, 1):
        print('=' * 40 + f' SAMPLE {number} ' + '=' * 40)
        print(text, flush=True)


if __name__ == '__main__':
    flags.run(flags.call_from_command_line, sample_model, ['model_name', 'models_dir', 'adapters'])
