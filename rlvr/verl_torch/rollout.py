"""verl's rollout `torch`: `TorchReplica` launches a `TorchServer`, `TorchRolloutAdapter` sends it the trainer's weights.

Importing this module registers it with verl, on a CPU (`plugin`) and on a GPU without vLLM (hardware=one_gpu_torch). There the
server is a process of its own beside the trainer's worker, on the same GPU.
"""

import os
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from verl.plugin.platform import get_platform
from verl.workers.rollout.base import _ROLLOUT_REGISTRY, BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry

from rlvr.verl_torch import private_names
from rlvr.verl_torch.rollout_server import server_name, start_server, to_array

private_names.check(__name__)
NAME = "torch"
SENT_AT_ONCE = 2**28  # bytes of weights


class TorchReplica(RolloutReplica):
    """Launches one `TorchServer`; it has no tensor parallelism."""

    async def launch_servers(self):
        if self.world_size != 1:
            raise ValueError(f"rollout {NAME}: tensor, data and pipeline parallel sizes must be 1")
        device = get_platform().device_name
        place = {} if device == "cpu" else await beside(self.workers[0])
        server = start_server(self.replica_rank, self.config, self.model_config, device, **place)
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
            raise NotImplementedError(f"rollout {NAME} takes whole tensors, not {wire_format}")
        from verl.workers.rollout.utils import ensure_async_iterator

        if self.server is None:
            self.server = ray.get_actor(server_name(self.rank))
        part: dict[str, Any] = {}  # of the weights: all at once would be two more copies of a large model
        async for name, weight in ensure_async_iterator(weights):
            part[name] = to_array(weight, self.config.dtype)
            if sum(array.nbytes for array in part.values()) > SENT_AT_ONCE:
                await self.server.update_weights.remote(part)
                part = {}
        await self.server.update_weights.remote(part, global_steps=global_steps)


async def beside(worker) -> dict[str, Any]:
    """Options of a Ray actor on the node of `worker` that sees the same accelerator, without Ray counting it twice."""
    platform = get_platform()
    resource = platform.ray_resource_name()

    def place(_worker) -> tuple[str, str]:
        context = ray.get_runtime_context()
        return context.get_node_id(), context.get_accelerator_ids()[resource][0]

    node, device = await worker.__ray_call__.remote(place)
    variables = dict.fromkeys(platform.ray_noset_envvars(), "1") | {platform.visible_devices_envvar(): device}
    return {
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        "runtime_env": {"env_vars": variables},
    }


RolloutReplicaRegistry.register(NAME, lambda: TorchReplica)
_ROLLOUT_REGISTRY[(NAME, "async")] = f"{__name__}.{TorchRolloutAdapter.__name__}"
