"""A look at an object file before LLVM gets it: LLVM's loader ends the process over one that is damaged."""

from __future__ import annotations

import platform
import struct

from sterna.dialects.errors import CompileError

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
IDENTITY = b"\x7fELF\x02\x01\x01"
"""ELF, 64 bits, little endian, version 1."""

RELOCATABLE = 1
NO_BITS = 8
MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243}


def check_object(data: bytes, name: str) -> None:
    """CompileError, naming the file, unless it is a whole relocatable object for this machine."""
    if len(data) < HEADER.size or not data.startswith(IDENTITY):
        raise CompileError(f"{name}: expected an ELF object file of 64 bits, found other data")
    _, kind, machine, _, _, _, table, _, _, _, _, entry_bytes, entries, _ = HEADER.unpack_from(data)
    expected = MACHINES.get(platform.machine(), machine)
    if kind != RELOCATABLE or machine != expected:
        raise CompileError(f"{name}: expected a relocatable object for machine {expected}, found {machine}")
    if entry_bytes != SECTION.size or table + entries * entry_bytes > len(data):
        raise CompileError(f"{name}: the object file is cut off or damaged")
    for number in range(entries):
        _, kind, _, _, start, size, *_ = SECTION.unpack_from(data, table + number * entry_bytes)
        if kind != NO_BITS and start + size > len(data):
            raise CompileError(f"{name}: section {number} of the object file reaches past its end")
