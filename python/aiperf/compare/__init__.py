"""Two runs or more against each other: same workload? which figures differ, by how much, and is it more than chance?

`aiperf.run.imported.load_sides` opens the runs, of this tool and of others; `comparison` compares them, `render` shows it, `fail_on` judges.
"""
