"""What a result says of where it was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations import provenance


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", "AMD EPYC with AVX-512"),
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx2\n", "AMD EPYC with AVX2"),
        ("flags\t\t: amx_tile avx2 avx512f\nmodel name\t: Xeon\nmodel name\t: other\n", "Xeon with AMX"),
        ("model name\t: old\nflags\t\t: fpu\n", "old"),
    ],
)
def test_one_name_of_several_processors_is_told_apart(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert provenance._cpu(tmp_path / "cpuinfo") == expected


def test_a_system_without_cpuinfo_has_a_name_all_the_same(tmp_path: Path) -> None:
    assert isinstance(provenance._cpu(tmp_path / "none"), str)
