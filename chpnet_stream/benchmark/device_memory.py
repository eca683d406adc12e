"""What a measurement takes of the GPU's memory."""

from __future__ import annotations


class DeviceMemory:
    """Memory of the GPU that is taken from now on; nothing where there is no GPU."""

    def __init__(self) -> None:
        self._taken, self._reserved = _taken(), 0
        if self._taken is not None:
            import torch

            torch.cuda.reset_peak_memory_stats()
            self._reserved = torch.cuda.memory_reserved()

    def mb(self) -> float | None:
        """MB so far; None where there is no GPU.

        What PyTorch held more at most, or, where it is more, what is taken now and was not then:
        TensorRT has memory of its own, which PyTorch doesn't know of. Another program that takes
        some meanwhile is counted, too.
        """
        now = _taken()
        if now is None or self._taken is None:
            return None
        import torch

        held = torch.cuda.max_memory_reserved() - self._reserved
        return max(now - self._taken, held) / 2**20


def _taken() -> int | None:
    """Bytes of the GPU that are taken, by whomever; None where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return int(total - free)
