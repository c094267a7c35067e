"""A prompt to texts.

    sample_config     what is asked of a text
    endings           texts that end a sample
    generation        a prompt to texts: the whole way
    backends          what computes logits here, TensorFlow or LiteRT
    litert            a .tflite at work
    litert_slots      several texts of it at once
    sample_numpy      sample.py again, without TensorFlow
    controls          what shall not be said, or less often
    beam              the likeliest continuations, several at a time
    speculative       the same samples with fewer calls, by a small model's proposals
    token_logprobs    what the model thought of each token of a sample

`sample.py` above is the loop itself: logits to the next token.
"""
