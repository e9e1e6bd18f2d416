"""Messages to token ids and loss mask, in one place for training, evaluation and serving."""
