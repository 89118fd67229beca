"""What the runs say: statistics, tables and figures, from run folders alone.

Needs no GPU and loads neither torch, ray nor verl. Commands: results (runs to CSV), report (everything), compare (two runs),
post_saturation (one run). Below them: paper/ and manifests say what to draw, needed which runs that takes, results reads runs,
responses judges their texts, stats and estimates count, tables, claims and figures say what holds, table_files and style
give them their form.
"""
