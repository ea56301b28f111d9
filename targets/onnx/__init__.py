"""ONNX as a way out: what a program computes as a standard graph that other runtimes run."""
