import pytest

from chpnet_stream.engines.failures import NoMemoryError, failure


@pytest.mark.parametrize(
    ("words", "short"),
    [
        ("Error Code 2: OutOfMemory (Requested size was 123 bytes.)", True),
        ("Error Code 1: Cuda Runtime (out of memory)", True),
        ("cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY", True),
        ("There may not be enough free memory for allocation to succeed", True),
        ("insufficient memory", True),
        ("std::bad_alloc", True),
        ("Cuda Runtime (an illegal memory access was encountered)", False),
        ("Serialization assertion failed: magic tag does not match", False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_words(words: str, short: bool) -> None:
    """Plans that may be good are not made again for it."""
    error = failure("tensorrt: can't load the plan of 0", words)
    assert isinstance(error, NoMemoryError) == short
    assert str(error) == f"tensorrt: can't load the plan of 0: {words}"
