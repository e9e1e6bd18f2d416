"""Prompts to answers: written token by token, or scored by likelihood."""
