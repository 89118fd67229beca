"""Every check that a start makes before anything is written. `check=true` and a dry run make the same ones."""

from rlvr.data import prepare
from rlvr.data.downloads import NotAtHand
from rlvr.planning import machine, prompt_lengths, resources
from rlvr.planning.plan import Plan
from rlvr.runs.folder import check_place
from rlvr.training import rewards


def check(plan: Plan, here: bool) -> list[str]:
    """Notes for the user. here: the run is to start on this machine, which must have the devices.

    ConfigError, DataError or RunFolderError, each with a remedy, if the run cannot work.
    """
    if here:
        machine.check_machine(plan.devices)
    machine.check_weights(plan.model)
    check_place(plan.folder, plan.stored_config)
    try:
        problems = plan.problems
    except NotAtHand as error:
        notes = [f"not checked: {error}"]
    else:
        prepare.refuse_other_rows(plan.folder, problems.training_rows, problems.test_rows)
        if plan.own_reward:
            row = problems.training_rows[0]
            label = row["reward_model"]["ground_truth"]
            rewards.compute_score("train", f"\\boxed{{{label}}}", label, row["extra_info"], **plan.own_reward)
        notes = problems.notes + prompt_lengths.check(plan.model, problems, plan.prompt_tokens, plan.devices.engine)
    notes += machine.processor_notes(plan.devices)
    if plan.workload and plan.needs:
        notes += resources.warnings(plan.workload, plan.needs, plan.machine)
    return notes
