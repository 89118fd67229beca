"""The paper's tables and figures as data (*.yaml), and what runs them: `launch` starts the runs that they need, `status`
shows how runs stand, `plan` and `runs` serve both; `timings` measures the project. The top room: nothing imports it.
"""
