"""GPT-2 in TensorFlow 2, module by module, in the order in which a sentence passes through them.

    encoder                  text to tokens and back; train_encoder, texts to a vocabulary
    text_files, tables       files to text, rows to texts
    token_files              files to tokens and back
    load_dataset             files to chunks of tokens, chunks to windows
    packing                  the same with many short texts in each window
    model                    tokens to logits; the loss
    windows                  which tokens are to be learnt, where texts begin
    lean_block, fused_loss   the same block and loss for training, with less to remember
    layerwise                the loss to gradients, layer by layer, remembered or recomputed
    small_model              the same for small models, compiled as one, a core for each part
    dropout                  what is left out on the way, the same each time it is computed
    lora                     weights that stay, and thin matrices that learn
    accumulate               the mean gradient of several small batches
    likelihood, validation   what each token of a text costs; the loss on what is held out
    checkpoint               a directory to a model and back
    architecture             the sizes and the vocabulary of a model to train
    sample                   logits to the next token, and the loop around it
    beam                     the likeliest continuations, several at a time
    speculative              the same samples with fewer calls, by a small model's proposals
    controls                 what shall not be said, or less often
    generation               a prompt to texts
    litert, sample_numpy     logits and the next token again, without TensorFlow
    engines                  which of the two it is
    export, litert_graph     a checkpoint to files that other programs serve
    training                 which text, which weights; training_loop, step by step
    evaluate, cloze          how well a model predicts a text, or chooses among continuations
    check_overlap            what samples repeat of a text, by a suffix_automaton

Beside them: memory_saving_gradients (recomputing in any graph), distribution (devices, machines),
processes (several at work), memory (what fits), progress (what a run shows), model_directory (which
folder a name means), dataset_config, train_config, sample_config (options), flags (command lines).
"""
