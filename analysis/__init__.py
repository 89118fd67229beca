"""What the runs say: statistics, tables and figures, from run folders alone.

Needs no GPU and loads neither torch, ray nor verl. Each figure is `load -> draw(ax) -> save`.
"""
