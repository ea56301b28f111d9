"""Ternary dot-product arrays: PE rows by SIMD columns of weights meet SIMD activations in every cycle.

Four designs, one file each, behind one interface (`array.py`); `costs.py` holds what synthesis measured of them.
"""
