"""How much faster a model samples with a draft, in one run.

    python benchmarks/speculative.py MODEL DRAFT TEXT

MODEL and DRAFT are directories of models with one vocabulary; the prompts are from TEXT. For each
way of sampling and number of proposals: tokens per second without and with the draft, taken in
turn, their ratio, and how many proposals a call of the model accepts. See README.md.
"""

import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, ROOT)

PROMPTS, PROMPT, LENGTH = 8, 32, 128  # texts; tokens of each prompt, and behind it
WAYS = {'as the model says': {}, 'top_k 40, 0.8': {'top_k': 40, 'temperature': 0.8}}
WAYS['the likeliest'] = {'temperature': 0}
DRAFT_TOKENS = (2, 4)


def seconds(sample, prompts):
    """How long the samples take behind the first, and the samples."""
    sample(0, prompts[0])  # compiles
    begin = time.perf_counter()
    samples = [sample(seed, prompt) for seed, prompt in enumerate(prompts)]
    return time.perf_counter() - begin, samples


def main(model, draft, path):
    from src.sampling import generation, sample_numpy, speculative

    model, draft = (generation.load(name, engine='tensorflow') for name in (model, draft))
    with open(path, encoding='utf-8') as file:
        ids = model.encoder.encode_to_numpy(file.read()).tolist()
    starts = range(0, len(ids) - PROMPT, (len(ids) - PROMPT) // PROMPTS)
    prompts = [ids[start : start + PROMPT] for start in starts][:PROMPTS]
    print('                   proposals  alone, tokens/s  with the draft  ratio  accepted')
    for way, options in WAYS.items():

        def alone(seed, prompt, options=options):
            (tokens,) = generation.generate_tokens(
                model.lm, prompt, length=LENGTH, seed=seed, **options
            )
            return tokens

        for count in DRAFT_TOKENS:

            def with_draft(seed, prompt, options=options, count=count):
                return speculative.sample_sequence(
                    lm=model.lm, draft=draft.lm, length=LENGTH, context=prompt,
                    uniforms=sample_numpy.uniforms_for(seed, range(3), LENGTH),
                    draft_tokens=count, **options,
                )  # fmt: skip

            rounds = [(seconds(alone, prompts), seconds(with_draft, prompts)) for _ in range(3)]
            each = [statistics.median(pair[i][0] for pair in rounds) for i in (0, 1)]
            accepted = [int(n) for sampled in rounds[0][1][1] for n in sampled.accepted]
            if not options.get('temperature', 1):  # then nothing is drawn, and both are one text
                both = zip(rounds[0][0][1], rounds[0][1][1], strict=True)
                assert all(a.tolist() == b.tokens.tolist() for a, b in both)
            tokens = PROMPTS * LENGTH
            print(
                f'{way:18} {count:9}  {tokens / each[0]:15.1f}  {tokens / each[1]:14.1f}  '
                f'{each[0] / each[1]:5.2f}  {statistics.mean(accepted):8.2f}',
                flush=True,
            )


if __name__ == '__main__':
    main(*sys.argv[1:])
