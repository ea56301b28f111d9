"""Stages of a pipeline as Verilog: one file a kind, each of which gives a module's text, its memory images and its timing."""
