"""What the service costs and what it is worth, measured beside others in one run.

A *part* is a module with an async `measure(options) -> list[Row]` and its `DEFAULTS`. It measures
both sides of each ratio round by round, who goes first changing from round to round, on one
simulator's behaviour and one PostgreSQL. `parts.py` lists them; `README.md` says what each does.
"""
