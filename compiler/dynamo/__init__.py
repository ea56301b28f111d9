"""`torch.compile(model, backend="sterna")`, and `sterna.explain`, which says what became of the model."""
