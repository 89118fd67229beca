"""verl's replay buffer with two changes: a failed rollout ends the run, and it is polled every 20 ms instead of every 2 s.

verl drops a failed group and goes on with the rest. A batch that silently lacks samples would be another
experiment, and a step whose samples all failed would never end.
"""

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from rlvr.verl_torch import private_names

private_names.check(__name__)

POLL_INTERVAL_S = 0.02


class FailFastReplayBuffer(ReplayBuffer):
    """Raises RuntimeError as soon as a group of responses has failed."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, poll_interval=POLL_INTERVAL_S, **kwargs)

    def _sync_metadata_from_transfer_queue(self):
        super()._sync_metadata_from_transfer_queue()
        failed = sum(len(keys) for keys in self.failure_keys.values())
        if failed:
            raise RuntimeError(f"{failed} group(s) of responses failed in the rollout or the reward: see the log above")
