"""The configuration: `compose` builds it (the only module that imports hydra), `schema` checks its keys and values."""
