"""A method for vLLM's workers: `inference_engines.VllmEngine` names this class, and each worker process imports it."""


class LoadWeights:
    """A mixin of vLLM's worker class, whose `reload_weights` maps Hugging Face names to vLLM's and packs weights again."""

    def load_weights_from(self, path: str) -> None:
        from rlvr.evaluate.inference_engines import named_weights

        self.reload_weights(weights_iterator=named_weights(path))  # type: ignore[attr-defined]
