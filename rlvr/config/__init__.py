"""What a run may say: `schema` (keys and domains), `compose` (the one module that imports hydra)."""
