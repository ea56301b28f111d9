"""The FPGA target: a language model as a streaming pipeline in Verilog."""
