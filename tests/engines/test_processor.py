import pytest

from chpnet_stream.engines.processor import has_bfloat16, instructions


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 avx512_vnni\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx2 fma\n", False),
        ("Features\t: fp asimd bf16\n", True),
        ("Features\t: fp asimd\n", False),
        ("model name : avx512_bf16\n", False),
        ("", False),
    ],
)
def test_what_linux_says(tmp_path, text, has):
    (tmp_path / "cpuinfo").write_text(text)
    assert has_bfloat16(tmp_path / "cpuinfo") is has


def test_nothing_said_is_no(tmp_path):
    assert has_bfloat16(tmp_path / "missing") is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flags\t\t: fpu avx avx2 avx512f avx512_bf16\n", "AVX-512, bfloat16"),
        ("flags\t\t: avx2 avx512f amx_bf16 amx_tile\n", "AVX-512, AMX, bfloat16"),
        ("flags\t\t: fpu avx avx2 fma\n", "AVX2"),
        ("Features\t: fp asimd sve bf16\n", "SVE, bfloat16"),
        ("Features\t: fp asimd\n", "NEON"),
        ("flags\t\t: fpu\n", ""),
    ],
)
def test_two_processors_of_one_name_are_told_apart(tmp_path, text, words):
    (tmp_path / "cpuinfo").write_text(f"model name : AMD EPYC\n{text}")
    assert instructions(tmp_path / "cpuinfo") == words
    assert instructions(tmp_path / "missing") == ""
