"""Learning: one loop for every recipe, state that survives, heads on frozen latents."""
