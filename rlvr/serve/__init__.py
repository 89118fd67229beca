"""Behind `python -m rlvr.serve`: an OpenAI-compatible endpoint over continuous batching on this machine, or over vLLM.

`requests` is what may be asked, `text` how tokens become text, `local` and `vllm` the two backends, `api` the HTTP side,
`gate` the check that a served model still reaches its reported score, `page/` the page at `/`.
"""
