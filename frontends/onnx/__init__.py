"""The ONNX frontend: a hostile-safe reader, and an importer with a table of emitters, a file for each family of ops."""
