"""GPT-2 in TensorFlow 2, module by module, in the order in which a sentence passes through them.

    encoder                  text to tokens and back; train_encoder, texts to a vocabulary
    load_dataset             files to chunks of tokens, chunks to windows
    model                    tokens to logits; the loss
    lean_block, fused_loss   the same block and loss for training, with less to remember
    layerwise                the loss to gradients, layer by layer, remembered or recomputed
    lora                     weights that stay, and thin matrices that learn
    accumulate               the mean gradient of several small batches
    checkpoint               a directory to a model and back
    architecture             the sizes and the vocabulary of a model to train
    sample                   logits to the next token, and the loop around it
    beam                     the likeliest continuations, several at a time
    speculative              the same samples with fewer calls, by a small model's proposals
    controls                 what shall not be said, or less often
    generation               a prompt to texts
    litert, choose_numpy     logits and the next token again, without TensorFlow
    export, litert_graph     a checkpoint to files that other programs serve
    training                 which text, which weights; training_loop, step by step

Beside them: memory_saving_gradients (recomputing in any graph), distribution (devices, machines),
memory (what fits), progress (what a run shows), model_directory (which folder a name means), flags
(command lines).
"""
