"""The IR of Sterna: the `ternary` dialect, its weights, and the interpreter that defines every op."""
