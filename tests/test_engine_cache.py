"""Is a cache of machine code only ever a help?  Missing, forbidden or damaged, it changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Run, load, save_nifti, whole_numbers


@pytest.mark.parametrize("state", ["forbidden", "damaged"])
def test_no_cache_is_no_reason_to_fail(spawn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    cache = tmp_path / "cache"
    source = save_nifti(tmp_path / "a.nii", whole_numbers(4, 4, 4))
    monkeypatch.setenv("CONV3DT_CACHE_DIR", "/dev/null/x" if state == "forbidden" else str(cache))
    assert spawn("upsample", source, tmp_path / "b.nii").code == 0
    if state == "damaged":
        kept = [file for file in cache.rglob("*.o") if file.is_file()]
        assert kept
        for file in kept:
            file.write_bytes(b"garbage")
    done = spawn("upsample", source, tmp_path / "c.nii")
    assert done.code == 0, done.err
    np.testing.assert_array_equal(load(tmp_path / "b.nii"), load(tmp_path / "c.nii"))
