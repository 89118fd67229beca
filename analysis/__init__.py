"""What the runs say: statistics, tables and figures, from run folders alone. Needs no GPU, loads neither torch, ray nor verl.

Commands: results (runs to CSV), report (everything), compare (two runs), post_saturation and gain (one run). What to draw:
paper/, manifests, needed_runs. One run is read by run_data, all runs by results. Statistics: comparisons, seed_estimates,
two_ends, curves. What holds: verdicts, tables, claims. Their form: table_files, figures, style, headers, page_values,
page_answers, response_style.
"""
