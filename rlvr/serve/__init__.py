"""Behind `python -m rlvr.serve`: an OpenAI-compatible endpoint over continuous batching on this machine, or over vLLM.

`options` of the command, `http_server` that starts everything, `api` the routes and limits, `api_requests` what a client may
ask, `torch_backend` and `vllm_backend` what answers, `detokenize` how tokens become text, `score_gate` the check that a
served model still reaches its reported score, `page/` the page at `/`.
"""
