"""What the benchmarks of the ops share: shapes, inputs, forms, agreement before timing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.roofline import Work
from unianimate_kernels._dispatch import backends_of

Form = Callable[..., Tensor]

COMPILED = "reference, compiled"

# latents of 768x512 and 1216x768 pictures; the official network halves them three times
_LATENTS = ((96, 64), (152, 96))
_CHANNELS = (320, 640, 1280, 1280)
_FRAMES = (17, 33, 65, 129, 257)
# of the largest value: what two right results may differ by
_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 6e-2}
# on a GPU: the frames at which all levels come first, and the level that comes first at all frames
_CENTRE, _FINEST = 33, _LATENTS[0]


@dataclass(frozen=True)
class Shape:
    """The size of a video inside the network.

    Attributes:
        frames: F, the reference frame included.
        height: locations down.
        width: locations across.
        channels: C; of a scan its inner width.
        batch: B.
    """

    frames: int
    height: int
    width: int
    channels: int
    batch: int = 1

    @property
    def space(self) -> int:
        """Locations."""
        return self.height * self.width

    @property
    def numbers(self) -> int:
        """Numbers in one tensor of this size."""
        return self.batch * self.frames * self.space * self.channels

    @property
    def apart(self) -> bool:
        """Whether it is of neither the frames nor the level that others are compared with."""
        return self.frames != _CENTRE and (self.height, self.width) != _FINEST

    @property
    def central(self) -> bool:
        """Whether it is of both."""
        return self.frames == _CENTRE and (self.height, self.width) == _FINEST

    def __str__(self) -> str:
        """Name the axes in the order of memory."""
        batch = f"B={self.batch} " if self.batch > 1 else ""
        return f"{batch}F={self.frames} {self.height}x{self.width} C={self.channels}"


SMOKE_SHAPES = (Shape(3, 2, 2, 64),)
# the coarsest level of the official network, and levels of `small` as the clip grows
_CPU_SHAPES = (
    Shape(17, 12, 8, 1280),
    Shape(17, 16, 12, 96),
    Shape(65, 16, 12, 96),
    Shape(257, 8, 6, 96),
)


def unet_shapes() -> list[Shape]:
    """Return every size that the official network sees, short clips first."""
    return [
        Shape(frames, height >> level, width >> level, channels)
        for frames in _FRAMES
        for height, width in _LATENTS
        for level, channels in enumerate(_CHANNELS)
    ]


@dataclass(frozen=True, eq=False)
class Op:
    """An op as it is measured.

    Attributes:
        name: its name.
        inputs: (shape, dtype, device) -> the tensors it takes; all get gradients.
        forms: name -> how it is computed; "reference" is what all must agree with.
        work: (shape, bytes a number, backward too) -> the least it has to do.
        cpu: sizes for a CPU before those that all ops share.
        widen: channels of the op over those of the video; a scan is twice as wide.
        heavy: forms that are left out at more than so many numbers a tensor on a CPU.
        inference: the op's own forms have no gradients.
    """

    name: str
    inputs: Callable[[Shape, torch.dtype, torch.device], list[Tensor]]
    forms: Mapping[str, Form]
    work: Callable[[Shape, int, bool], Work]
    cpu: tuple[Shape, ...] = ()
    widen: int = 1
    heavy: Mapping[str, int] | None = None
    inference: bool = False

    def cases(self, scale: str) -> list[tuple[Shape, torch.dtype, str, str]]:
        """Return (shape, dtype, direction, form) to measure: "smoke", "cpu" or "gpu"."""
        directions = ("forward",) if self.inference else ("forward", "both")
        shared = {"smoke": SMOKE_SHAPES, "cpu": _CPU_SHAPES, "gpu": unet_shapes()}[scale]
        shapes = [replace(shape, channels=self.widen * shape.channels) for shape in shared]
        if scale == "cpu":
            shapes = [*self.cpu, *shapes]
        dtype = torch.bfloat16 if scale == "gpu" else torch.float32
        most = {} if self.heavy is None or scale != "cpu" else self.heavy
        return [
            (shape, dtype, direction, form)
            for shape in shapes
            for direction in directions
            for form in self.forms
            if shape.numbers <= most.get(form, shape.numbers)
            and not (scale == "gpu" and _leaves_out(shape, form))
        ]

    def group(self, shape: Shape, dtype: torch.dtype, direction: str) -> str:
        """Return the name of what is compared."""
        both = "forward and backward" if direction == "both" else direction
        return f"{self.name}, {shape}, {str(dtype).removeprefix('torch.')}, {both}"


def _leaves_out(shape: Shape, form: str) -> bool:
    """Return whether a GPU's time is better spent on others than on this form."""
    if form == COMPILED:
        return not shape.central
    return form in ("reference", "materialising") and shape.frames > _CENTRE


def backend_forms(call: Callable[..., Any], name: str | None = None) -> dict[str, Form]:
    """Return backend -> form for every backend of an op that serves this machine's device."""
    op = name or call.__name__
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def bind(backend: str) -> Form:
        return lambda *tensors: call(*tensors, backend=backend)

    return {
        backend: bind(backend)
        for backend, facts in backends_of(op).items()
        if device in facts.dtypes and device not in facts.off
    }


def compiled(form: Form) -> dict[str, Form]:
    """Return the form "compiled" of a reference, on a GPU: a CPU compiles for too long."""
    if not torch.cuda.is_available():
        return {}
    return {COMPILED: torch.compile(form, dynamic=False)}


@dataclass(frozen=True)
class Prepared:
    """What every form of an op is given, and what it must find.

    Attributes:
        leaves: the inputs.
        cotangent: of the result; None where no gradients are wanted.
        want: the reference's result.
        want_grads: and its gradients.
    """

    leaves: list[Tensor]
    cotangent: Tensor | None
    want: Tensor
    want_grads: list[Tensor]


_PREPARED: dict[tuple[Any, ...], Prepared] = {}


def prepare(
    op: Op, shape: Shape, dtype: torch.dtype, direction: str, device: torch.device
) -> Prepared:
    """Return what the forms of an op share; that of the last case is kept."""
    key = (op, shape, dtype, direction, device)
    if key not in _PREPARED:
        _PREPARED.clear()  # first: a GPU may not hold both
        torch.manual_seed(0)
        both, reference = direction == "both", op.forms["reference"]
        leaves = [t.requires_grad_(both) for t in op.inputs(shape, dtype, device)]
        with torch.no_grad():
            cotangent = torch.randn_like(reference(*leaves)) if both else None
        _PREPARED[key] = Prepared(leaves, cotangent, *evaluate(reference, leaves, cotangent))
    return _PREPARED[key]


def evaluate(
    form: Form, leaves: list[Tensor], cotangent: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """Compute an op, and its gradients if there is a cotangent."""
    y = form(*leaves)
    if cotangent is None:
        return y, []
    return y.detach(), list(torch.autograd.grad(y, leaves, cotangent))


def agree(got: Tensor, want: Tensor, what: str) -> None:
    """Check that a result is the reference's.

    Raises:
        AssertionError: it is not.
    """
    error, scale = (got - want).abs().max().item(), want.abs().max().item()
    assert error <= _TOLERANCE[want.dtype] * scale, f"{what}: off by {error:.1e} of {scale:.1e}"
