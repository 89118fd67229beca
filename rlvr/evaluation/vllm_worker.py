"""What a vLLM worker is taught for `rlvr.evaluation.engines.VllmEngine`; vLLM imports it by name in its own process."""


class LoadWeights:
    """Mixed into vLLM's worker class, whose `model_runner.model.load_weights` maps Hugging Face names to its own."""

    def load_weights_from(self, path: str) -> None:
        from rlvr.evaluation.engines import named_weights

        self.model_runner.model.load_weights(named_weights(path))  # type: ignore[attr-defined]
