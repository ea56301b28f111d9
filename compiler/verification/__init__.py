"""`sterna verify`: a model's kernels one by one, its passes, and the whole of it, on every target of this machine.

`subjects.py` makes the program of each target, `kernels.py` cuts it apart, `arrays.py` draws inputs that break kernels,
`checks.py` runs them, `verify.py` shares out the examples, `report.py` and `reproducers.py` write what was found.
"""
