"""A run: from its options to checkpoints.

train_config      the options
train             the command
training          which model, which text, which devices
run_directory     where a run's files are, and which checkpoint it begins from
initial_model     which model
dataset           which text
distribution      devices, and machines
memory            what fits
training_loop     when anything happens
stopping          signals that end it
saving            when weights are saved, and what becomes of bad ones
schedule          the learning rate of a step
train_step        one update, and the state that it changes
optimizer         gradients to weights
validation        what is held out, and the loss on it
progress          what a run shows: lines, a bar, loss.csv, loss.png
events            the same for TensorBoard
"""
