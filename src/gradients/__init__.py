"""A batch of tokens to the loss and its gradients, for less time and memory than a tape takes.

    masks             which tokens are to be learnt, and where documents begin
    dropout           what is left out on the way, the same each time it is computed
    lora              weights that stay, and thin matrices that learn
    lean_attention    attention that remembers none of its weights
    lean_block        model.block with less to remember
    fused_loss        the last matrix product and the cross-entropy as one
    backpropagation   from the loss to the embeddings, layer by layer, remembered or recomputed
    small_model       the same for small models, compiled as one program
    custom_gradients  what TensorFlow keeps of them, given back

A block is written four times in this project: docs/blocks.md says which runs when, and what each
may not change. Nothing here knows files, optimizers, or when a step is made.
"""
