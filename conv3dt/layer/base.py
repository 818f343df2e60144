"""What does every Keras layer know of its weights and losses?  That part of the protocol, on a torch module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from conv3dt.dtypes import as_policy, dtype_name
from conv3dt.errors import ArgumentError
from conv3dt.initializers import GlorotUniform
from conv3dt.layer.options import LayerOptions

Loss = Callable[[], Any]


class KerasModule(nn.Module):
    """A torch module with a Keras layer's name, weights, dtype policy and losses.

    Weights are torch parameters; before the layer is built it remembers where ``to`` has put it.
    """

    def __init__(self, options: LayerOptions) -> None:
        super().__init__()
        self.name = options.name
        self.dtype_policy = options.policy
        self._trainable = options.trainable
        self._device = torch.get_default_device()
        self._added_losses: list[Loss] = []
        self._activity_loss: Tensor | None = None

    # Types.

    @property
    def dtype(self) -> str:
        """The name of the weights' type, also as ``variable_dtype``."""
        return dtype_name(self.dtype_policy.variable)

    @property
    def variable_dtype(self) -> str:
        """The name of the weights' type."""
        return self.dtype

    @property
    def compute_dtype(self) -> str:
        """The name of the type in which the layer computes."""
        return dtype_name(self.dtype_policy.compute)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move the weights, and what is remembered for weights to come: the device and the policy.

        Another type for the weights (``double()``, ``to(torch.float16)``) is another policy, in which the layer
        computes as well.
        """
        probe = fn(torch.empty(0, dtype=self.dtype_policy.variable, device=self._device))
        if probe.dtype != self.dtype_policy.variable:
            self.dtype_policy = as_policy(probe.dtype)
        self._device = probe.device
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    # Weights.

    @property
    def weights(self) -> list[nn.Parameter]:
        """The weights in Keras's order: kernel, bias, those of the activation; none before the layer is built."""
        return list(self.parameters())

    @property
    def trainable_weights(self) -> list[nn.Parameter]:
        """The weights that ask for gradients."""
        return [weight for weight in self.weights if weight.requires_grad]

    @property
    def non_trainable_weights(self) -> list[nn.Parameter]:
        """The weights that ask for none."""
        return [weight for weight in self.weights if not weight.requires_grad]

    @property
    def trainable(self) -> bool:
        """Whether the weights ask for gradients; may be set at any time."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"trainable must be a bool, got {value!r}")
        self._trainable = value
        self.requires_grad_(value)
        for child in self.children():
            if hasattr(child, "trainable"):
                setattr(child, "trainable", value)  # noqa: B010

    def count_params(self) -> int:
        """Return how many numbers the weights hold.

        Raises:
            ArgumentError: the layer is not built.
        """
        if not self.built:
            raise ArgumentError(f"layer {self.name} is not built and has no weights to count; call build(input_shape)")
        return sum(weight.numel() for weight in self.weights)

    @property
    def built(self) -> bool:
        """Whether the weights are there."""
        raise NotImplementedError

    def get_weights(self) -> list[NDArray[Any]]:
        """Return copies of the weights in Keras's order and layout; bfloat16, which NumPy lacks, as float32."""
        return [_array(weight) for weight in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights from arrays in Keras's order and layout.

        Raises:
            ArgumentError: another number of arrays, another shape, or nested lists instead of arrays.
        """
        if len(weights) != len(self.weights):
            hint = "" if self.built else "; the layer is not built, call build(input_shape) first"
            raise ArgumentError(f"layer {self.name} has {len(self.weights)} weights, got {len(weights)}{hint}")
        for weight, given in zip(self.weights, weights, strict=True):
            if tuple(getattr(given, "shape", ())) != tuple(weight.shape):
                raise ArgumentError(
                    f"a weight of layer {self.name} must be an array of shape {tuple(weight.shape)}, "
                    f"got {tuple(given.shape) if hasattr(given, 'shape') else type(given).__name__}"
                )
        with torch.no_grad():
            for weight, given in zip(self.weights, weights, strict=True):
                weight.copy_(torch.as_tensor(given))

    def _new_weight(self, initializer: Any, shape: tuple[int, ...]) -> nn.Parameter:
        """Return a weight with values from the initializer; None is glorot_uniform, as in Keras."""
        if not self.dtype_policy.variable.is_floating_point:
            raise ArgumentError(f"the weights' dtype must be a floating one, got {self.dtype}; use float32")
        with torch.inference_mode(False):  # a weight made by a call in inference mode could never be trained
            values = torch.as_tensor((initializer or GlorotUniform())(shape, dtype=self.dtype_policy.variable))
            if tuple(values.shape) != shape:
                raise ArgumentError(f"an initializer must return shape {shape} as asked, got {tuple(values.shape)}")
            return nn.Parameter(values.to(self._device, self.dtype_policy.variable), requires_grad=self._trainable)

    # Losses.

    @property
    def losses(self) -> list[Tensor]:
        """What the layer adds to the loss of training, newly computed.

        In Keras's order: the activity loss of the last call, the penalties of kernel and bias, what `add_loss` added,
        the penalties of the activation's weights.
        """
        activity = [] if self._activity_loss is None else [self._activity_loss]
        added = [loss() for loss in self._added_losses]
        found = [*activity, *self._penalties(), *(loss for loss in added if loss is not None)]
        for child in self.children():
            found += getattr(child, "losses", [])
        return [torch.as_tensor(loss) for loss in found]

    def _penalties(self) -> Iterable[Tensor]:
        return ()

    def add_loss(self, losses: Loss | Iterable[Loss] | None) -> None:
        """Add functions without arguments whose values `losses` lists from now on.

        Raises:
            ArgumentError: a value instead of a function.
        """
        for loss in losses if isinstance(losses, (list, tuple)) else [losses]:
            if loss is not None and not callable(loss):
                raise ArgumentError(f"add_loss takes functions without arguments, got {loss!r}; write lambda: ...")
            if loss is not None:
                self._added_losses.append(loss)

    def __getstate__(self) -> dict[str, Any]:
        # The activity loss hangs on the graph of the last call, which neither copies nor files can hold.
        return {**self.__dict__, "_activity_loss": None}


def _array(weight: Tensor) -> NDArray[Any]:
    values = weight.detach().cpu()
    array: NDArray[Any] = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.array(array)
