"""Which frames the network sees at once, when a video is longer than that."""

import math


def plan_windows(
    num_frames: int, size: int, overlap: int, stride: int = 1
) -> tuple[tuple[int, ...], ...]:
    """Return the windows of the official long-video sampler, each a tuple of frame indices.

    With stride 1 windows of ``size`` frames start every ``size - overlap`` frames, and the last one
    is moved back to end at the last frame. A larger ``stride`` adds windows that take every 2nd,
    4th, ... frame and may wrap round. A video that fits is one plain window, where the official
    code repeats frames or crashes.

    Args:
        num_frames: F of the whole video.
        size: frames a window.
        overlap: frames that neighbouring windows share.
        stride: number of time scales at most.

    Raises:
        ValueError: sizes that make no windows.
    """
    if num_frames < 1 or size < 1 or stride < 1:
        raise ValueError(
            f"plan_windows: num_frames, size and stride must be at least 1, got {num_frames}, "
            f"{size} and {stride}"
        )
    if not 0 <= overlap < size:
        raise ValueError(f"plan_windows: overlap must be 0 to {size - 1}, got {overlap}")
    if num_frames <= size:
        return (tuple(range(num_frames)),)
    scales = min(stride, math.ceil(math.log2(num_frames / size)) + 1)
    windows = [
        tuple((start + k * step) % num_frames for k in range(size))
        for step in (2**scale for scale in range(scales))
        for start in range(0, num_frames - overlap, size * step - overlap)
    ]
    # the official code steps the tail by the number of scales, not by the largest one
    tail = range(num_frames - size * scales, num_frames, scales)
    windows[-1] = tuple(frame % num_frames for frame in tail)
    return tuple(windows)
