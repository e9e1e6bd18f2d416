"""Sequential tuning: several stages, one on top of the other, and what each did to every task."""
