"""verl on a CPU: a platform, an FSDP2 engine, a rollout engine and a batched agent loop, as verl plug-ins.

Loading `rlvr.verl_torch.plugin` registers them (verl does so in every process through its `verl.plugins` entry point);
`VERL_PLATFORM=cpu` selects them. Rollout engine and agent loop also serve a GPU without vLLM (`rollout`). Nothing here imports
the rest of the project.
"""
