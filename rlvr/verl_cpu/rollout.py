"""verl's rollout on a CPU: `TorchReplica` launches a `TorchServer`, `TorchRolloutAdapter` sends it the trainer's weights."""

import os
from typing import Any

import ray
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica
from verl.workers.rollout.utils import ensure_async_iterator

from rlvr.verl_cpu.server import server_name, start_server


class TorchReplica(RolloutReplica):
    """Launches one `TorchServer`; tensor parallelism has no meaning here."""

    async def launch_servers(self):
        if self.world_size != 1:
            raise ValueError("rollout torch_cpu: tensor, data and pipeline parallel sizes must be 1 on a CPU")
        server = start_server(self.replica_rank, self.config, self.model_config)
        await server.ready.remote()
        self.servers = [server]
        self._server_handle = server
        self._server_address = server_name(self.replica_rank)


class TorchRolloutAdapter(BaseRollout):
    """Lives beside the trainer and sends its weights to the server of the same rank."""

    def __init__(self, config, model_config, device_mesh, replica_rank: int = -1):
        super().__init__(config, model_config, device_mesh)
        self.rank = int(os.environ["RANK"]) if replica_rank == -1 else replica_rank
        self.server: Any = None

    async def resume(self, tags: list[str]) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(self, weights, wire_format="named_tensors", global_steps=None, **kwargs) -> None:
        if wire_format != "named_tensors":
            raise NotImplementedError(f"rollout torch_cpu takes whole tensors, not {wire_format}")
        if self.server is None:
            self.server = ray.get_actor(server_name(self.rank))
        named = {name: t.detach().float().cpu().numpy() async for name, t in ensure_async_iterator(weights)}
        await self.server.update_weights.remote(named, global_steps=global_steps)
