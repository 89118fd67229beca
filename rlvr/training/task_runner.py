"""The Ray actor that drives one run: TransferQueue, trainer and agent loop, in verl's order.

verl and torch are imported inside it, so that the command line stays light.
"""

import os
from concurrent.futures import ThreadPoolExecutor, wait


def _nothing() -> None: ...


class TaskRunner:
    """Created by `rlvr.training.ray_cluster` with `ray.remote`."""

    def _start_servers(self, config) -> list:
        """On a CPU the rollout servers load while the trainer does; verl takes them as they are."""
        if config.hardware.device != "cpu":
            return []
        from rlvr.verl_torch.rollout_server import start_server

        rollout, model = config.actor_rollout_ref.rollout, config.actor_rollout_ref.model
        replicas = config.hardware.nodes * config.hardware.devices_per_node
        return [start_server(rank, rollout, model) for rank in range(replicas)]

    def run(self, config) -> None:
        """Train until done. Every failure is raised to the caller."""
        # Start independent processes in parallel, for each of them loads for seconds: the queue's, which need no verl, while
        # this one loads it; then servers and workers together.
        import ray

        ray.remote(_nothing).options(num_cpus=0).remote()  # a started process for verl's search for a free port
        import transfer_queue as tq

        config.transfer_queue.enable = True
        queue = ThreadPoolExecutor(1).submit(tq.init, config.transfer_queue)
        import torch
        from verl.utils.import_utils import load_class_from_fqn
        from verl.utils.logging_utils import configure_verl_logging

        from rlvr.training.trainer import RunFolderTrainer

        configure_verl_logging()
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        servers = self._start_servers(config)  # noqa: F841  (an actor lives as long as its handle)
        try:
            trainer = RunFolderTrainer(config, queue)
            trainer.init()
            manager_class = load_class_from_fqn(
                config.actor_rollout_ref.rollout.agent.agent_loop_manager_class
                or "verl.trainer.ppo.v1.agent_loop_tq.AgentLoopManagerTQ",
                "agent loop manager",
            )
            manager = manager_class.create(
                config=config,
                llm_client=trainer.get_llm_client(),
                teacher_client=None,
                reward_loop_worker_handles=trainer.get_reward_handles(),
            )
            if not getattr(manager_class, "asks_load_balancer", True):
                # Its process would load verl for six seconds beside the first evaluation.
                ray.kill(trainer.llm_server_manager.global_load_balancer)
            trainer.fit(manager)
        finally:
            wait([queue])
            tq.close()
