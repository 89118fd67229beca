"""The paper's tables and figures as data (*.yaml). `launch` starts the runs that they need, `status` shows their progress
(both use launch_plan, run_states and slurm), and `timings` measures the project. Neither rlvr nor analysis imports this package.
"""
