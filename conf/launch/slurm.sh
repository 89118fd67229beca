#!/usr/bin/env bash
# One run as a task of a Slurm array; experiments/slurm.py submits this file as it is, and says where things are:
#   RLVR_ROOT    the checkout      RLVR_PYTHON  the interpreter     RLVR_SETUP  shell lines to run first, or empty
#   RLVR_TASKS   a folder with the arguments of run.py, one in a line, in a file for each task
# SIGUSR2 (by Slurm before the time limit, or `scancel --signal=USR2 --batch`) stops the run in order and requeues the task.
# SIGTERM (pre-emption, `scontrol requeue`, `scancel`) reaches the run itself, which then stops in order; whether the task
# is queued again is Slurm's to say. However it ended, the run goes on from its last checkpoint.
set -u
cd "$RLVR_ROOT" || exit 1
# shellcheck source=/dev/null
[ -z "$RLVR_SETUP" ] || source "$RLVR_SETUP"
mapfile -t arguments < "$RLVR_TASKS/$SLURM_ARRAY_TASK_ID"
requeue=0
stopped() { requeue=1; kill -INT "$run" 2> /dev/null; }
trap stopped USR2
trap : TERM

helpers=()
if [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ]; then
    head=$(hostname -I | cut -d ' ' -f 1):$((20000 + SLURM_JOB_ID % 20000))
    others=$((SLURM_JOB_NUM_NODES - 1))
    # A token for this job alone: nobody else on these nodes can join its Ray.
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
    RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    "$RLVR_PYTHON" -m ray.scripts.scripts start --head --node-ip-address="${head%:*}" --port="${head#*:}" --block &
    helpers+=($!)
    srun --nodes=$others --ntasks=$others --ntasks-per-node=1 --exclude="$SLURMD_NODENAME" \
        "$RLVR_PYTHON" -m ray.scripts.scripts start --address="$head" --block &
    helpers+=($!)
    until [ "$("$RLVR_PYTHON" -m ray.scripts.scripts status --address="$head" 2> /dev/null | grep -c node_)" -ge "$SLURM_JOB_NUM_NODES" ]; do
        for helper in "${helpers[@]}"; do
            kill -0 "$helper" 2> /dev/null || { echo "error: Ray did not start on all nodes"; kill "${helpers[@]}" 2> /dev/null; exit 1; }
        done
        sleep 2
    done
    arguments+=("ray.address=$head")
fi

# What is ignored here is ignored by all that the run starts: SIGUSR2 would kill Ray's processes.
(trap '' USR2; trap - TERM; exec "$RLVR_PYTHON" run.py "${arguments[@]}") &
run=$!
while :; do # `wait` also returns at a signal
    wait "$run"
    code=$?
    kill -0 "$run" 2> /dev/null || break
done
for helper in "${helpers[@]}"; do kill "$helper" 2> /dev/null; done
if [ "$requeue" = 1 ] && [ "$code" != 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # until Slurm ends this attempt
fi
exit "$code"
