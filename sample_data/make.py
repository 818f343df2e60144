"""Which small volumes and kernels do the examples and tests use?  Made from formulas and one seed; same bytes each run.

Run ``python sample_data/make.py``: the files appear beside this one.
"""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent
HEAD, HEAD_MM = (48, 56, 28), (2.0, 2.0, 4.0)
SERIES, SERIES_MM = (24, 24, 12, 6), (3.0, 3.0, 4.0)
TILT = euler2mat(z=0.15, y=-0.1, x=0.2)
"""A rotation about all three axes: no test that mixes axes up can pass by chance."""


def main() -> None:
    """Write every file."""
    labels, head = phantom()
    save_nifti("head.nii.gz", head, placed(HEAD, HEAD_MM), "synthetic head, conv3dt sample data")
    save_nifti("labels.nii.gz", labels, placed(HEAD, HEAD_MM), "0 air, 1 scalp, 2 brain, 3 ventricles")
    save_series()
    save_cells()
    save_kernels()


def placed(shape: tuple[int, ...], size_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return an oblique voxel-to-world matrix with the middle of the volume near the world's origin."""
    linear = TILT @ np.diag([-size_mm[0], size_mm[1], size_mm[2]])  # left-handed: qfac is -1
    return np.asarray(from_matvec(linear, -linear @ ((np.array(shape[:3]) - 1) / 2) + (3.0, -5.0, 7.0)))


def phantom() -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Return tissue labels and a scan of a head of ellipsoids."""
    labels = np.zeros(HEAD, np.uint8)
    labels[ellipsoid(HEAD, (0.5, 0.5, 0.48), (0.45, 0.47, 0.46))] = 1
    labels[ellipsoid(HEAD, (0.5, 0.5, 0.5), (0.38, 0.41, 0.38))] = 2
    labels[ellipsoid(HEAD, (0.42, 0.5, 0.55), (0.05, 0.16, 0.12))] = 3
    labels[ellipsoid(HEAD, (0.58, 0.48, 0.55), (0.06, 0.14, 0.1))] = 3
    bright = np.array([0.0, 400.0, 900.0, 250.0])[labels]
    bright[ellipsoid(HEAD, (0.66, 0.66, 0.4), (0.06, 0.05, 0.08))] = 1400.0
    texture = smooth(noise(HEAD, seed=1), times=2) * 160 * (labels > 0) + noise(HEAD, seed=2) * 6
    return labels, np.clip(np.rint(smooth(bright, times=1) + texture), 0, 32767).astype(np.int16)


def save_series() -> None:
    """A 4-D series whose stored numbers mean something only after scaling, with a repetition time of 2.5 s."""
    inside = ellipsoid(SERIES[:3], (0.5, 0.5, 0.5), (0.4, 0.42, 0.4))
    active = ellipsoid(SERIES[:3], (0.6, 0.4, 0.5), (0.12, 0.12, 0.2))
    rest = smooth(inside * 1000.0, times=1)
    volumes = [rest + active * 40.0 * np.sin(t) + inside * noise(SERIES[:3], seed=10 + t) * 5 for t in range(SERIES[3])]
    stored = np.rint(np.stack(volumes, axis=3) / 0.25).astype(np.int16)
    header = nifti_header(stored, placed(SERIES, SERIES_MM), "synthetic series, TR 2.5 s")
    header["pixdim"][4] = 2.5
    header["scl_slope"], header["scl_inter"] = 0.25, 0.0
    header.set_dim_info(0, 1, 2)
    write_gzip("series.nii.gz", header, stored)


def save_cells() -> None:
    """A stack of round cells, and features of four channels."""
    shape = (24, 64, 64)
    bright = 300 + noise(shape, seed=20) * 15
    generator = np.random.Generator(np.random.PCG64(21))
    for _ in range(24):
        middle, radius = generator.uniform(0.1, 0.9, 3), generator.uniform(0.06, 0.12)
        cell = ellipsoid(shape, tuple(middle), (radius * 1.6, radius, radius))
        bright += cell * generator.uniform(1000, 9000)
    features = np.stack([smooth(noise((10, 16, 16), seed=30 + c), times=1) for c in range(4)]).astype(np.float32)
    with h5py.File(FOLDER / "cells.h5", "w", libver="earliest") as file:
        raw = file.create_dataset(
            "raw", data=np.clip(np.rint(smooth(bright, times=1)), 0, 65535).astype(np.uint16), chunks=(8, 32, 32),
            compression="gzip", compression_opts=4, shuffle=True, track_times=False,
        )  # fmt: skip
        raw.attrs["element_size_um"] = np.array([1.2, 0.4, 0.4])
        raw.attrs["sample"] = "synthetic cells"
        label(raw, "zyx")
        deep = file.create_dataset("features", data=features, track_times=False)
        deep.attrs["element_size_um"] = np.array([1.2, 0.4, 0.4])
        label(deep, "czyx")


def save_kernels() -> None:
    """A blur with a bias, a kernel unlike any of its mirror images, and one from four channels to eight."""
    row = np.array([1.0, 3.0, 3.0, 1.0])
    blur = row[:, None, None] * row[:, None] * row / 64
    save_npz("blur.npz", kernel=blur[..., None, None].astype(np.float32), bias=np.array([10.0], np.float32))
    asymmetric = np.arange(1, 25, dtype=np.float32).reshape(3, 2, 4)
    np.save(FOLDER / "asymmetric.npy", asymmetric)
    kernel = np.random.Generator(np.random.PCG64(40)).normal(0, 0.1, (3, 3, 3, 8, 4)).astype(np.float32)
    with h5py.File(FOLDER / "features.h5", "w", libver="earliest") as file:
        group = file.create_group("up")
        group.create_dataset("kernel", data=kernel, track_times=False)
        group.create_dataset("bias", data=np.linspace(-1, 1, 8, dtype=np.float32), track_times=False)


def ellipsoid(
    shape: tuple[int, ...], middle: tuple[float, ...], radius: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Return which voxels lie inside; middle and radii as parts of the volume's sides."""
    grids = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    return sum(((grid - m) / r) ** 2 for grid, m, r in zip(grids, middle, radius, strict=True)) < 1  # type: ignore[return-value]


def noise(shape: tuple[int, ...], *, seed: int) -> NDArray[np.float64]:
    """Return white noise of mean 0 and deviation 1."""
    return np.random.Generator(np.random.PCG64(seed)).normal(size=shape)


def smooth(values: NDArray[Any], *, times: int) -> NDArray[np.float64]:
    """Return values averaged over their neighbours with taps 1/4, 1/2, 1/4 along every axis; edges repeated."""
    out = np.asarray(values, np.float64)
    for axis in range(out.ndim):
        for _ in range(times):
            before, after = (np.take(out, [end], axis=axis) for end in (0, -1))
            long = np.concatenate([before, out, after], axis=axis)
            low, middle, high = (
                np.take(long, range(k, k + out.shape[axis]), axis=axis) for k in range(3)
            )  # three views of the same row, one voxel apart
            out = (low + 2 * middle + high) / 4
    return out


def save_nifti(name: str, array: NDArray[Any], affine: NDArray[np.float64], text: str) -> None:
    """Write a 3-D volume."""
    write_gzip(name, nifti_header(array, affine, text), array)


def nifti_header(array: NDArray[Any], affine: NDArray[np.float64], text: str) -> Nifti1Header:
    """Return a header with sform and qform that say the same, in mm and seconds."""
    header = Nifti1Header(endianness="<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = text.encode()
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header


def write_gzip(name: str, header: Nifti1Header, array: NDArray[Any]) -> None:
    """Write header and voxels as ``.nii.gz`` with neither name nor time inside."""
    raw = header.binaryblock + bytes(4) + array.astype(array.dtype.newbyteorder("<")).tobytes(order="F")
    with (FOLDER / name).open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(raw)


def save_npz(name: str, **arrays: NDArray[Any]) -> None:
    """Write arrays as ``.npz``, every member dated at zip's beginning of time."""
    with zipfile.ZipFile(FOLDER / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0)), "w") as member:
                np.save(member, array)


def label(dataset: Any, letters: str) -> None:
    """Name the axes of an HDF5 dataset."""
    for axis, letter in enumerate(letters):
        dataset.dims[axis].label = letter


if __name__ == "__main__":
    main()
