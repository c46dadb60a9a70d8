"""Azure's virtual machines that Azure ML offers for clusters: public knowledge, from Azure's own tables of sizes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VmSize:
    """One size. memory_gb: GiB; disk_gb: the temporary disk, GiB."""

    name: str
    cores: int
    memory_gb: float
    gpus: int
    disk_gb: int


def find(name: str) -> VmSize | None:
    """The size of that name, in whatever case."""
    return SIZES.get(name.upper())


# name cores memory disk [GPUs]
_TABLE = """
D1_V2 1 3.5 50
D2_V2 2 7 100
D3_V2 4 14 200
D4_V2 8 28 400
D5_V2 16 56 800
D11_V2 2 14 100
D12_V2 4 28 200
D13_V2 8 56 400
D14_V2 16 112 800
D15_V2 20 140 1000
DS1_V2 1 3.5 7
DS2_V2 2 7 14
DS3_V2 4 14 28
DS4_V2 8 28 56
DS5_V2 16 56 112
DS11_V2 2 14 28
DS12_V2 4 28 56
DS13_V2 8 56 112
DS14_V2 16 112 224
DS15_V2 20 140 280
D2_V3 2 8 50
D4_V3 4 16 100
D8_V3 8 32 200
D16_V3 16 64 400
D32_V3 32 128 800
D64_V3 64 256 1600
D2S_V3 2 8 16
D4S_V3 4 16 32
D8S_V3 8 32 64
D16S_V3 16 64 128
D32S_V3 32 128 256
D64S_V3 64 256 512
E2S_V3 2 16 32
E4S_V3 4 32 64
E8S_V3 8 64 128
E16S_V3 16 128 256
E32S_V3 32 256 512
E64S_V3 64 432 864
F2S_V2 2 4 16
F4S_V2 4 8 32
F8S_V2 8 16 64
F16S_V2 16 32 128
F32S_V2 32 64 256
F48S_V2 48 96 384
F64S_V2 64 128 512
F72S_V2 72 144 576
NC6 6 56 340 1
NC12 12 112 680 2
NC24 24 224 1440 4
NC24R 24 224 1440 4
NC6S_V2 6 112 736 1
NC12S_V2 12 224 1474 2
NC24S_V2 24 448 2948 4
NC6S_V3 6 112 736 1
NC12S_V3 12 224 1474 2
NC24S_V3 24 448 2948 4
NC24RS_V3 24 448 2948 4
NC4AS_T4_V3 4 28 180 1
NC8AS_T4_V3 8 56 360 1
NC16AS_T4_V3 16 110 360 1
NC64AS_T4_V3 64 440 2880 4
NC24ADS_A100_V4 24 220 64 1
NC48ADS_A100_V4 48 440 128 2
NC96ADS_A100_V4 96 880 256 4
NC40ADS_H100_V5 40 320 128 1
NC80ADIS_H100_V5 80 640 256 2
ND6S 6 112 736 1
ND12S 12 224 1474 2
ND24S 24 448 2948 4
ND24RS 24 448 2948 4
ND40RS_V2 40 672 2900 8
ND96ASR_V4 96 900 6000 8
ND96AMSR_A100_V4 96 1900 6400 8
ND96ISR_H100_V5 96 1900 1000 8
NV6 6 56 340 1
NV12 12 112 680 2
NV24 24 224 1440 4
NV12S_V3 12 112 320 1
NV24S_V3 24 224 640 2
NV48S_V3 48 448 1280 4
NV36ADS_A10_V5 36 440 720 1
"""


def _size(line: str) -> VmSize:
    name, cores, memory, disk, *gpus = line.split()
    return VmSize(
        name=f"STANDARD_{name}",
        cores=int(cores),
        memory_gb=float(memory),
        disk_gb=int(disk),
        gpus=int(gpus[0]) if gpus else 0,
    )


SIZES = {size.name: size for size in map(_size, _TABLE.strip().splitlines())}
