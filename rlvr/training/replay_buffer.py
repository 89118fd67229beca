"""verl's replay buffer, polled every 20 ms instead of every 2 s, which ends a run whose rollouts have failed.

verl counts a failed group as terminal and goes on with what is left; a batch that silently lacks samples is not the
experiment that was asked for, and one that lacks all of them never ends.
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
