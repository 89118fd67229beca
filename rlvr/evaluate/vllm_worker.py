"""What a vLLM worker is taught for `rlvr.evaluate.inference_engines.VllmEngine`; vLLM imports it by name in its own process."""


class LoadWeights:
    """Mixed into vLLM's worker class, whose own reload maps Hugging Face names to vLLM's and packs anew what it packs."""

    def load_weights_from(self, path: str) -> None:
        from rlvr.evaluate.inference_engines import named_weights

        self.reload_weights(weights_iterator=named_weights(path))  # type: ignore[attr-defined]
