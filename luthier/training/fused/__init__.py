"""Forward and backward passes of Llama layers written by hand: the same numbers, sooner."""
