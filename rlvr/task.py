"""The Ray actor that drives one run: TransferQueue, trainer and agent loop, in verl's order.

verl and torch are imported inside it, so that the command line stays light.
"""

import os


class TaskRunner:
    """Created by `rlvr.launch` with `ray.remote`."""

    def run(self, config) -> None:
        """Train until done. Whatever fails is raised to the caller."""
        import torch
        import transfer_queue as tq
        from verl.utils.import_utils import load_class_from_fqn
        from verl.utils.logging_utils import configure_verl_logging

        from rlvr.trainer import RunFolderTrainer

        configure_verl_logging()
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        config.transfer_queue.enable = True
        tq.init(config.transfer_queue)
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
