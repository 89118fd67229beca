"""The policy loss `none`: no policy gradient. With it, KL, entropy and weight decay act alone (Table 5, rows 8-10)."""

import torch
from verl.trainer.ppo.core_algos import register_policy_loss


@register_policy_loss("none")
def no_policy_loss(
    old_log_prob, log_prob, advantages, response_mask, loss_agg_mode="token-mean", config=None, **kwargs
):
    """verl's policy-loss signature; returns a zero that has no gradient, and no metrics."""
    return torch.zeros((), device=log_prob.device), {}
