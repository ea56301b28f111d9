"""Runs a compiled `forward` on an emulated CPU, so that AVX-512 code is tested where no CPU has AVX-512.

A disk image boots the Bochs emulator (an Ice Lake model: AVX-512 F/BW/VL/VNNI/VBMI) into long mode without an
operating system, calls the kernels of an artifact on memory that we laid out, and prints the outputs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HERE = Path(__file__).parent
LOAD_ADDRESS = 0x1000000
HEADER_BYTES = 8 * (5 + 2 * 256 + 2 * 64)
CODE_ADDRESS = LOAD_ADDRESS + 0x10000
PAYLOAD_SECTOR = 64
CYLINDER_BYTES = 16 * 63 * 512
RAM_MEGABYTES = 512

CONFIGURATION = """\
cpu: model={model}, count=1, ips=100000000, reset_on_triple_fault=0
memory: guest={ram}, host={ram}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path="{disk}", mode=flat
boot: disk
display_library: term
parport1: enabled=1, file="{printed}"
log: {log}
panic: action=fatal
error: action=report
info: action=ignore
"""


@dataclass(frozen=True)
class Call:
    """`forward(args, rows, 0, 1)`: args are the addresses of the buffers; one that occurs twice is one."""

    buffers: Sequence[Array]
    rows: int


class EmulationError(RuntimeError):
    """The emulated machine did not boot, crashed, or is not installed."""


def run(
    object_file: bytes,
    calls: Sequence[Call],
    outputs: Sequence[Array],
    directory: Path,
    *,
    model: str = "corei7_icelake_u",
) -> list[Array]:
    """Make the calls one after the other; returns what the buffers `outputs` hold in the end, as copies.

    Raises EmulationError if Bochs is missing (Debian: bochs, bochsbios, bochs-term) or the machine does
    not come to its end.
    """
    if shutil.which("bochs") is None:
        raise EmulationError("bochs is not installed: apt-get install bochs bochsbios bochs-term")
    disk = directory / "disk.img"
    boot = _flat_binary(directory, "boot", [HERE / "boot.S"], 0x7C00)
    stage2 = _flat_binary(directory, "stage2", [HERE / "stage2.c"], 0x10000)
    payload = _payload(object_file, calls, outputs, directory)
    image = boot[:512] + stage2.ljust((PAYLOAD_SECTOR - 1) * 512, b"\0") + payload
    disk.write_bytes(image.ljust(-(-len(image) // CYLINDER_BYTES) * CYLINDER_BYTES, b"\0"))
    log, printed = directory / "bochs.log", directory / "printed.bin"
    configuration = directory / "bochsrc"
    configuration.write_text(
        CONFIGURATION.format(model=model, ram=RAM_MEGABYTES, disk=disk, log=log, printed=printed)
    )
    environment = os.environ | {"TERM": "xterm"}
    command = ["bochs", "-q", "-f", configuration]
    subprocess.run(command, input=b"c\n", capture_output=True, timeout=600, check=False, env=environment)
    data = printed.read_bytes() if printed.exists() else b""
    if len(data) != sum(out.nbytes for out in outputs):
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else "no log"
        raise EmulationError(f"the emulated machine did not finish, its log ends with:\n{tail}")
    ends = np.cumsum([out.nbytes for out in outputs])
    return [
        np.frombuffer(data[end - out.nbytes : end], out.dtype).reshape(out.shape).copy()
        for end, out in zip(ends, outputs, strict=True)
    ]


def _flat_binary(directory: Path, name: str, sources: Sequence[Path], address: int) -> bytes:
    elf = directory / f"{name}.elf"
    _link(elf, sources, address)
    flat = directory / f"{name}.bin"
    _tool("objcopy", "-O", "binary", elf, flat)
    return flat.read_bytes()


def _link(elf: Path, inputs: Sequence[Path], address: int) -> None:
    script = elf.with_suffix(".lds")
    script.write_text(
        f"SECTIONS {{ . = {address:#x}; .text : {{ *(.text.entry) *(.text*) }} .rodata : {{ *(.rodata*) }} "
        ".data : { *(.data*) *(.bss*) *(COMMON) } /DISCARD/ : { *(.eh_frame*) *(.comment) *(.note*) } }"
    )
    flags = [
        "-ffreestanding",
        "-fno-pic",
        "-fno-stack-protector",
        "-mno-red-zone",
        "-O2",
        "-mno-avx",
        "-fno-tree-loop-distribute-patterns",
    ]
    _tool(
        "gcc",
        *flags,
        "-static",
        "-nostdlib",
        "-no-pie",
        "-Wl,--build-id=none",
        f"-Wl,-T,{script}",
        *inputs,
        "-o",
        elf,
    )


def _payload(object_file: bytes, calls: Sequence[Call], outputs: Sequence[Array], directory: Path) -> bytes:
    kernels = directory / "kernels.o"
    kernels.write_bytes(object_file)
    code = _flat_binary(directory, "code", [kernels, HERE / "freestanding.c"], CODE_ADDRESS)
    memory = bytearray(CODE_ADDRESS - LOAD_ADDRESS) + code
    addresses: dict[int, int] = {}
    keep: list[Array] = []

    def place(data: bytes) -> int:
        memory.extend(bytes(-len(memory) % 4096))
        address = LOAD_ADDRESS + len(memory)
        memory.extend(data)
        return address

    def address_of(buffer: Array) -> int:
        if id(buffer) not in addresses:
            keep.append(buffer)
            addresses[id(buffer)] = place(buffer.tobytes())
        return addresses[id(buffer)]

    call_words = [
        (place(np.array([address_of(b) for b in call.buffers], np.uint64).tobytes()), call.rows)
        for call in calls
    ]
    region_words = [(address_of(out), out.nbytes) for out in outputs]
    entry = _symbol(directory / "code.elf", "forward")
    words = np.zeros(HEADER_BYTES // 8, np.uint64)
    words[:5] = [0x53544552, len(memory), entry, len(calls), len(outputs)]
    words[5 : 5 + 2 * len(calls)] = np.array(call_words, np.uint64).ravel()
    words[5 + 512 : 5 + 512 + 2 * len(outputs)] = np.array(region_words, np.uint64).ravel()
    memory[:HEADER_BYTES] = words.tobytes()
    return bytes(memory)


def _symbol(elf: Path, name: str) -> int:
    for line in _tool("nm", elf).splitlines():
        address, _, symbol = line.split()
        if symbol == name:
            return int(address, 16)
    raise EmulationError(f"{elf} does not define {name}")


def _tool(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulationError(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout
