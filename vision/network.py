"""What runs a model: OpenVINO, or ultralytics with torch. Pictures of the network's own size in, raw outputs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino as ov
import openvino.opset13 as op

from vision.heads import Head
from vision.model import Floats, Picture
from vision.registry import (
    OPENVINO_SUFFIXES,
    SUFFIXES,
    Colour,
    Description,
    ModelError,
    describe_ultralytics,
    find_description,
    read_ultralytics,
    read_yolox,
)

GPU_BATCH = 8
"""Pictures of several cameras that a GPU is given at once."""

PRECISIONS = {"auto": None, "f32": "f32", "bf16": "bf16", "f16": "f16"}
FIRST_SIDE = 640
"""Width of the input of an ultralytics checkpoint that does not say how it was trained."""


class Network(Protocol):
    """A loaded network."""

    description: Description
    canvases: list[Picture]
    """What it looks at, (height, width, 3) uint8 BGR: as many as are best looked at at once. The caller draws there."""

    def infer(self, count: int) -> list[Floats]:
        """The first output, (1, …) float32, for each of the first `count` canvases; overwritten by the next call."""
        ...


def load_network(
    path: Path, *, device: str, threads: int, precision: str, batch: int, description: Description | None = None
) -> Network:
    """Load and check the model at `path`; `batch` 0: what suits the device. Raises ModelError with the reason."""
    if not path.is_file():
        raise ModelError(f"{path}: there is no such model file")
    if path.suffix not in SUFFIXES:
        raise ModelError(f"{path}: a model is one of {', '.join(SUFFIXES)}")
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r}: there are {', '.join(PRECISIONS)}")
    if path.suffix in OPENVINO_SUFFIXES:
        return OpenVinoNetwork(path, device, threads, precision, batch, description)
    return TorchNetwork(path, device, batch, description)


class OpenVinoNetwork:
    """An ONNX network. On a CPU every thread works at a picture of its own; a GPU is given batches."""

    def __init__(
        self, path: Path, device: str, threads: int, precision: str, batch: int, description: Description | None
    ) -> None:
        core = ov.Core()
        if device.split(".")[0] not in {*(name.split(".")[0] for name in core.available_devices), "AUTO"}:
            raise ModelError(
                f"vision.device {device!r}: OpenVINO finds {', '.join(core.available_devices)} here"
                " (a CUDA device runs .pt and .engine models)"
            )
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise ModelError(f"{path}: not a readable ONNX network ({_first_line(error)})") from None
        if len(model.inputs) != 1 or len(model.outputs) < 1:
            raise ModelError(f"{path}: needs one input and an output, has {len(model.inputs)} inputs")
        self.description = description or find_description(path, _read_own(path, model))
        on_cpu = device.startswith("CPU")
        batch = batch or (1 if on_cpu else GPU_BATCH)
        self._together = _fit(path, model, self.description, batch)
        streams = max(1, threads) if on_cpu and self._together == 1 else 1
        compiled = _compile(core, model, self.description, device, threads, streams, precision)
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT")).split("'")[1] if on_cpu else precision
        size = (self._together, self.description.input_height, self.description.input_width, 3)
        self._inputs = [np.zeros(size, np.uint8) for _ in range(streams)]
        self.canvases = [canvas for buffer in self._inputs for canvas in buffer]
        self._requests = [compiled.create_infer_request() for _ in range(streams)]
        for request, buffer in zip(self._requests, self._inputs, strict=True):
            request.set_input_tensor(ov.Tensor(buffer, shared_memory=True))

    def infer(self, count: int) -> list[Floats]:
        """See Network."""
        groups = [min(self._together, count - start) for start in range(0, count, self._together)]
        used = self._requests[: len(groups)]
        if len(used) == 1:
            used[0].infer()
        else:
            for request in used:
                request.start_async()
            for request in used:
                request.wait()
        return [
            output[row : row + 1]
            for request, size in zip(used, groups, strict=True)
            for output in [request.get_output_tensor(0).data]
            for row in range(size)
        ]


class TorchNetwork:
    """A `.pt` or `.engine` file of ultralytics, through its own loader. A `.pt` is a pickle: install none you don't trust."""

    def __init__(self, path: Path, device: str, batch: int, description: Description | None) -> None:
        try:
            from vision.training.network import declare_missing_operators

            declare_missing_operators()
            import torch
            from ultralytics.nn.autobackend import AutoBackend
        except ImportError as error:
            raise ModelError(
                f"{path}: {path.suffix} models need torch and ultralytics, the extra `train`"
                f" (pip install 'gridwarden[train]'); missing here: {error.name}"
            ) from None
        self._torch = torch
        self._device = torch.device({"CPU": "cpu", "GPU": "cuda:0"}.get(device, device))
        if path.suffix == ".engine" and self._device.type == "cpu":
            raise ModelError(f"{path}: a TensorRT engine runs on an NVIDIA GPU only: set vision.device to cuda:0")
        try:
            self._model = AutoBackend(str(path), device=self._device, fp16=self._device.type != "cpu", verbose=False)
            self._model.eval()
        except Exception as error:  # whatever a foreign file does to the loader, the reason is said
            raise ModelError(f"{path}: ultralytics cannot load it ({_first_line(error)})") from None
        self._count = batch or (1 if self._device.type == "cpu" else GPU_BATCH)
        self.precision = "f16" if self._device.type != "cpu" else "f32"
        self.description = description or find_description(path, self._read_own(path))
        self._stack = np.zeros((self._count, self.description.input_height, self.description.input_width, 3), np.uint8)
        self.canvases = list(self._stack)
        (output,) = self.infer(1)
        _check_output(path, [int(size) for size in output.shape], self.description)

    def _read_own(self, path: Path) -> dict[str, Any]:
        task = self._model.task or getattr(getattr(self._model, "model", None), "task", None)
        if task not in (None, "detect"):
            raise ModelError(f"{path}: it is an ultralytics model for the task {task!r}, wanted is 'detect'")
        names = {int(index): str(name) for index, name in dict(self._model.names).items()}
        height, width = self._side(path)
        blank = self._torch.zeros(1, 3, height, width, device=self._device)
        output = self._forward(blank)
        return describe_ultralytics(names, height, width, [int(size) for size in output.shape])

    def _side(self, path: Path) -> tuple[int, int]:
        """Height and width: an engine's own; for a checkpoint 16 to 9 at the side it was trained for."""
        if path.suffix == ".engine":
            height, width = self._model.imgsz
            return int(height), int(width)
        given = getattr(getattr(self._model, "model", None), "args", None) or {}
        side = given.get("imgsz", FIRST_SIDE) if isinstance(given, dict) else getattr(given, "imgsz", FIRST_SIDE)
        side = int(max(side) if isinstance(side, list | tuple) else side) // 32 * 32
        return -(-side * 9 // 16 // 32) * 32, side

    def _forward(self, batch: Any) -> Any:
        with self._torch.inference_mode():
            output = self._model(batch)
        return output[0] if isinstance(output, list | tuple) else output

    def infer(self, count: int) -> list[Floats]:
        """See Network."""
        torch, wanted = self._torch, self.description
        stacked = torch.from_numpy(np.ascontiguousarray(self._stack[:count].transpose(0, 3, 1, 2))).to(self._device)
        if wanted.colour is Colour.RGB:
            stacked = stacked.flip(1)
        output = self._forward(stacked.float() * wanted.scale).float().cpu().numpy()
        return [np.asarray(output[row : row + 1], np.float32) for row in range(count)]


def _read_own(path: Path, model: ov.Model) -> dict[str, Any] | None:
    """What a network says of itself, by its metadata or its shape."""
    shape_in, shape_out = _sizes(model.input(0).partial_shape), _sizes(model.output(0).partial_shape)
    metadata = {
        key: model.get_rt_info(["framework", key]).astype(str)
        for key in ("names", "task", "imgsz")
        if model.has_rt_info(["framework", key])
    }
    try:
        return read_ultralytics(metadata, shape_in, shape_out) or read_yolox(shape_in, shape_out)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _sizes(shape: ov.PartialShape) -> list[int]:
    if shape.rank.is_dynamic:
        return []
    return [-1 if size.is_dynamic else int(size.get_length()) for size in shape]


def _fit(path: Path, model: ov.Model, wanted: Description, batch: int) -> int:
    """Give the network its size and check its output; the batch that it takes: 1 where its shapes are fixed to that."""
    size = [3, wanted.input_height, wanted.input_width]
    together = 1
    for count in dict.fromkeys((batch, 1)):
        try:
            model.reshape([count, *size])
            together = count
            break
        except RuntimeError as error:
            if count == 1:
                raise ModelError(
                    f"{path}: the network does not take pictures of {wanted.input_width}x{wanted.input_height}"
                    f" ({_first_line(error)})"
                ) from None
    _check_output(path, _sizes(model.output(0).partial_shape), wanted)
    return together


def _check_output(path: Path, sizes: list[int], wanted: Description) -> None:
    if len(sizes) != 3 or min(sizes) < 0:
        raise ModelError(f"{path}: the output has the shape {sizes}, expected three fixed dimensions")
    count = len(wanted.classes)
    found, needed, what = {
        Head.YOLO26_E2E: (sizes[2], 6, "columns"),
        Head.YOLO: (sizes[1], 4 + count, "rows"),
        Head.YOLOX: (sizes[2], 5 + count, "columns"),
    }[wanted.head]
    if found != needed:
        raise ModelError(
            f"{path}: head {wanted.head} with {count} classes needs {needed} {what}, the network gives {tuple(sizes)}"
        )


def _compile(
    core: ov.Core, model: ov.Model, wanted: Description, device: str, threads: int, streams: int, precision: str
) -> ov.CompiledModel:
    options = {"PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT"}
    if device.startswith("CPU"):
        options |= {
            "INFERENCE_NUM_THREADS": str(max(1, threads)),
            "NUM_STREAMS": str(streams),
            "ENABLE_CPU_PINNING": "NO",
        }
    hint = PRECISIONS[precision]
    if hint is not None:
        options["INFERENCE_PRECISION_HINT"] = hint
    try:
        return core.compile_model(_take_pictures(model, wanted), device, options)
    except RuntimeError as error:
        raise ModelError(f"the network cannot be compiled for {device} ({_first_line(error)})") from None


def _take_pictures(model: ov.Model, wanted: Description) -> ov.Model:
    """The network, fed with pictures as they are: (batch, H, W, 3) uint8, BGR.

    OpenVINO does type, scale and order faster than numpy can, and in this order of steps without turning the picture over
    twice: its own preprocessing puts the transposition first, and a CPU's convolutions want the channels last again.
    """
    given = model.get_parameters()[0]
    count, _, height, width = [int(size) for size in given.get_partial_shape().to_shape()]
    picture = op.parameter([count, height, width, 3], np.uint8, name="picture")
    values = op.convert(picture, given.get_element_type().get_type_name())
    if wanted.scale != 1.0:
        values = op.multiply(values, op.constant(wanted.scale, dtype=given.get_element_type().to_dtype()))
    users = list(given.output(0).get_target_inputs())
    if wanted.colour is Colour.RGB and not _swap_colours(users):
        values = op.gather(values, op.constant([2, 1, 0]), op.constant(3))
    planes = op.transpose(values, op.constant([0, 3, 1, 2]))
    for user in users:
        user.replace_source_output(planes.output(0))
    return ov.Model(model.get_results(), [picture], "pictures")


def _swap_colours(users: list[Any]) -> bool:
    """Let a network's first convolution take the colours the other way round; False when it does not begin with one."""
    if len(users) != 1 or users[0].get_node().get_type_name() != "Convolution":
        return False
    convolution = users[0].get_node()
    weights = convolution.input_value(1).get_node()
    if users[0].get_index() != 0 or weights.get_type_name() != "Constant":
        return False
    swapped = np.ascontiguousarray(weights.data[:, ::-1])
    convolution.input(1).replace_source_output(op.constant(swapped).output(0))
    return True


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
