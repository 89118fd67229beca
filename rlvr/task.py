"""The Ray actor that drives one run: TransferQueue, trainer and agent loop, in verl's order.

verl and torch are imported inside it, so that the command line stays light.
"""

import os
from concurrent.futures import ThreadPoolExecutor


class TaskRunner:
    """Created by `rlvr.launch` with `ray.remote`."""

    def _start_servers(self, config) -> list:
        """On a CPU the rollout servers load while the trainer does; verl takes them as they are."""
        if config.actor_rollout_ref.rollout.name != "torch_cpu":
            return []
        from rlvr.verl_cpu.rollout import start_server

        rollout, model = config.actor_rollout_ref.rollout, config.actor_rollout_ref.model
        return [start_server(rank, rollout, model) for rank in range(config.hardware.devices_per_node)]

    def run(self, config) -> None:
        """Train until done. Whatever fails is raised to the caller."""
        import torch
        import transfer_queue as tq
        from verl.utils.import_utils import load_class_from_fqn
        from verl.utils.logging_utils import configure_verl_logging

        configure_verl_logging()
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        config.transfer_queue.enable = True
        # What takes seconds and does not wait for one another goes side by side.
        with ThreadPoolExecutor(1) as background:
            queue = background.submit(tq.init, config.transfer_queue)
            servers = self._start_servers(config)  # noqa: F841  (an actor lives as long as its handle)
            from rlvr.trainer import RunFolderTrainer

            queue.result()
        try:
            trainer = RunFolderTrainer(config)
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
            trainer.fit(manager)
        finally:
            tq.close()
