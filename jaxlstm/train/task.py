"""Tasks: what targets mean to a trial, which losses and metrics they have, what is predicted.

The engine sums what a task gives for each row or step and knows no more of it. A task is part of
what shapes a program; its numbers (`Task.numbers`) are traced. Shapes: ``B`` rows, ``T`` steps,
``C`` classes, ``D`` labels or numbers of a target. With targets per step, outputs and targets have
an axis T after B.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlstm.train import objective
from jaxlstm.train.data import Data, valid_steps
from jaxlstm.train.hyperparameters import check_choice, metric_names

Array = jax.Array

#: A loss by its name, or a function ``(targets, outputs) -> [B]`` (or ``[B, T]``) of the user's own.
Loss = str | Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of targets.

    Attributes:
      per_step: whether every step has a target.
      losses: the losses that a program has, names of `LOSSES` or one function; a trial's own is
        traced. Empty: all.
    """

    per_step: bool = False
    losses: tuple[Loss, ...] = ()

    #: Losses by name; their places are the traced number.
    LOSSES: ClassVar[tuple[str, ...]] = ()
    #: Further names of losses: Keras's and shorter ones.
    ALIASES: ClassVar[Mapping[str, str]] = {}
    #: Names of the metrics beside the loss (Keras's); the first is shown while a search goes on.
    METRICS: ClassVar[tuple[str, ...]] = ()
    #: scikit-learn's scorers that equal a metric on the validation rows, by name; None: the default.
    COUNTED: ClassVar[Mapping[str | None, str]] = {}
    #: Numbers of the losses, their names and defaults.
    DEFAULTS: ClassVar[Mapping[str, Any]] = {}
    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not self.losses:
            object.__setattr__(self, "losses", self.LOSSES)

    @property
    def monitors(self) -> tuple[str, ...]:
        """What early stopping and the plateau schedule may watch, in the order of the metrics."""
        return metric_names(self.METRICS)

    @classmethod
    def loss_of(cls, loss: Any) -> Loss:
        """A checked loss: a name of `LOSSES`, or a function.

        Raises:
          ValueError: an unknown name; TypeError: neither a name nor a hashable function.
        """
        if callable(loss):
            try:
                hash(loss)
            except TypeError as error:
                raise TypeError(
                    f"loss must be hashable to be part of a program: {error}."
                ) from None
            return loss
        known = cls.ALIASES.get(loss, loss) if isinstance(loss, str) else loss
        check_choice("loss", known, cls.LOSSES)
        return str(known)

    def with_loss(self, loss: Loss) -> Task:
        """The task of a program that may serve trials of this loss: one's own function is alone."""
        return dataclasses.replace(self, losses=(loss,) if callable(loss) else self.LOSSES)

    def numbers(self, params: Mapping[str, Any], dtype: Any) -> dict[str, np.ndarray]:
        """The traced numbers of the losses, of checked parameters."""
        loss = self.loss_of(params["loss"])
        place = 0 if callable(loss) else self.LOSSES.index(loss)
        found = {"loss": np.asarray(place, np.int32)}
        return found | {name: np.asarray(params[name], dtype) for name in self.DEFAULTS}

    # -- in a program -----------------------------------------------------------------------------

    def sums(
        self,
        outputs: Array,
        batch: Data,
        valid: Array,
        numbers: Mapping[str, Array],
        *,
        train: bool,
    ) -> tuple[Array, Array]:
        """Loss and metrics summed over the rows, or steps, that count, by their weights.

        Args:
          outputs: of the network, ``[B, C]`` or ``[B, D]``, per step ``[B, T, ...]``.
          batch: the rows' targets, lengths and weights.
          valid: ``[B]``, False for rows that only fill the batch up.
          numbers: the trial's, see `numbers`.
          train: whether the loss is one to train on, with the weights of classes.

        Returns:
          The sums, shapes ``()`` and ``[metrics]``.
        """
        losses, metrics = self.of_each(outputs, batch.y, numbers, train=train)
        counts, weight = valid, batch.weight
        if self.per_step:
            steps = losses.shape[1]
            counts = jnp.broadcast_to(valid[:, None], losses.shape)
            if batch.lengths is not None:
                counts = counts & valid_steps(batch.lengths, steps)
            if weight is not None and weight.ndim == 1:
                weight = weight[:, None]
        if weight is not None:
            counts = counts & (weight > 0)

        def total(values: Array) -> Array:
            weighted = values if weight is None else values * weight
            return jnp.sum(jnp.where(counts, weighted, 0))

        return total(losses), jnp.stack([total(values) for values in metrics])

    def of_each(
        self, outputs: Array, y: Array, numbers: Mapping[str, Array], *, train: bool
    ) -> tuple[Array, list[Array]]:
        """Loss and metrics of each row or step, ``[B]`` or ``[B, T]``."""
        raise NotImplementedError

    def predictions(self, outputs: Array, numbers: Mapping[str, Array]) -> Array:
        """What the network's outputs say: probabilities, or numbers in the targets' units."""
        raise NotImplementedError

    def evidence(self, outputs: Array, choice: Array) -> Array:
        """The output of each row's choice of a class, label or number, ``[B]`` or ``[B, T]``."""
        places = choice[:, None, None] if self.per_step else choice[:, None]
        places = jnp.broadcast_to(places, (*outputs.shape[:-1], 1))
        return jnp.take_along_axis(outputs, places, axis=-1)[..., 0]

    def _chosen(
        self,
        branches: Mapping[str, Callable[[Array, Array], Array]],
        numbers: Mapping[str, Array],
        outputs: Array,
        y: Array,
    ) -> Array:
        """The trial's loss among those that the program has."""
        if callable(self.losses[0]):
            return self._own(self.losses[0], outputs, y)
        functions = [branches[str(name)] for name in self.losses]
        if len(functions) == 1:
            return functions[0](outputs, y)
        places = [self.losses.index(n) if n in self.losses else 0 for n in self.LOSSES]
        place = jnp.asarray(places, jnp.int32)[numbers["loss"]]
        # All are computed, which costs less than a branch and its gradient; those that are not the
        # trial's see zeros, whose gradient is finite.
        values = [
            function(jnp.where(place == number, outputs, 0), y)
            for number, function in enumerate(functions)
        ]
        return lax.select_n(place, *values)

    @staticmethod
    def _own(loss: Callable[[Any, Any], Any], outputs: Array, y: Array) -> Array:
        """A function's values of each row or step; the mean over further axes."""
        values = jnp.asarray(loss(y, outputs))
        wanted = outputs.shape[:-1]
        if values.shape[: len(wanted)] != wanted:
            raise ValueError(
                f"loss must return a value for each row{' and step' * (len(wanted) > 1)}, so its shape"
                f" must begin with {wanted} for outputs of shape {outputs.shape}, got {values.shape}."
            )
        return jnp.mean(values, axis=tuple(range(len(wanted), values.ndim)))

    # -- on the host ------------------------------------------------------------------------------

    def check_own_loss(self, y: np.ndarray, outputs: int, dtype: Any) -> None:
        """Raises ValueError where a function of the user's own returns no value for each row.

        Args:
          y: targets of one row, as the device gets them.
          outputs: last axis of the network's outputs.
          dtype: their type.
        """
        (loss,) = self.losses
        steps = y.shape[1:2] if self.per_step else ()

        def shape(*rest: int) -> Any:
            return jax.ShapeDtypeStruct((3, *steps, *rest), dtype)

        target = jax.ShapeDtypeStruct((3, *y.shape[1:]), y.dtype)
        jax.eval_shape(lambda outputs, y: self._own(loss, outputs, y), shape(outputs), target)  # type: ignore[arg-type]

    def strata(self, y: np.ndarray) -> np.ndarray | None:
        """What a split of rows keeps the proportions of, ``[N]``; None for plain ones."""
        return None


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """One label per row or step: softmax over C classes; targets are integers."""

    LOSSES: ClassVar[tuple[str, ...]] = ("cross_entropy", "focal")
    ALIASES: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            [
                "crossentropy",
                "cross-entropy",
                "log_loss",
                "categorical_crossentropy",
                "sparse_categorical_crossentropy",
                "binary_crossentropy",
                "binary_cross_entropy",
            ],
            "cross_entropy",
        ),
        **dict.fromkeys(["categorical_focal_crossentropy", "binary_focal_crossentropy"], "focal"),
    }
    METRICS: ClassVar[tuple[str, ...]] = ("accuracy",)
    COUNTED: ClassVar[Mapping[str | None, str]] = {None: "accuracy", "accuracy": "accuracy"}
    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "label_smoothing": 0.0,
        "gamma": 2.0,
        "focal_alpha": 0.25,
    }
    name: ClassVar[str] = "classification"

    def of_each(
        self, outputs: Array, y: Array, numbers: Mapping[str, Array], *, train: bool
    ) -> tuple[Array, list[Array]]:
        """Cross-entropy, times the class's weight in training, and whether the label is right."""
        n = numbers
        branches = {
            "cross_entropy": lambda z, y: objective.cross_entropy(z, y, n["label_smoothing"]),
            "focal": lambda z, y: objective.focal_cross_entropy(
                z, y, n["label_smoothing"], n["gamma"], n["focal_alpha"]
            ),
        }
        losses = self._chosen(branches, numbers, outputs, y)
        if train:
            losses = losses * n["class_weight"][y]
        return losses, [(jnp.argmax(outputs, -1) == y).astype(losses.dtype)]

    def predictions(self, outputs: Array, numbers: Mapping[str, Array]) -> Array:
        """Probabilities of the classes."""
        return jax.nn.softmax(outputs)

    def strata(self, y: np.ndarray) -> np.ndarray | None:
        """The labels, where a row has one."""
        return None if self.per_step else y


@dataclasses.dataclass(frozen=True)
class Multilabel(Task):
    """Any of D labels: a sigmoid each; targets are 0 and 1."""

    LOSSES: ClassVar[tuple[str, ...]] = Classification.LOSSES
    ALIASES: ClassVar[Mapping[str, str]] = Classification.ALIASES
    METRICS: ClassVar[tuple[str, ...]] = ("accuracy",)  # of single labels, as Keras's
    DEFAULTS: ClassVar[Mapping[str, Any]] = Classification.DEFAULTS
    name: ClassVar[str] = "multilabel"

    def of_each(
        self, outputs: Array, y: Array, numbers: Mapping[str, Array], *, train: bool
    ) -> tuple[Array, list[Array]]:
        """Binary cross-entropy, the labels' mean, and the share of labels that are right."""
        n = numbers
        branches = {
            "cross_entropy": lambda z, y: objective.binary_cross_entropy(
                z, y, n["label_smoothing"]
            ),
            "focal": lambda z, y: objective.binary_focal_cross_entropy(
                z, y, n["label_smoothing"], n["gamma"]
            ),
        }
        losses = self._chosen(branches, numbers, outputs, y)
        right = (outputs > 0) == (y > 0.5)
        return losses, [jnp.mean(right, axis=-1, dtype=losses.dtype)]

    def predictions(self, outputs: Array, numbers: Mapping[str, Array]) -> Array:
        """Probability of each label."""
        return jax.nn.sigmoid(outputs)


@dataclasses.dataclass(frozen=True)
class Regression(Task):
    """D numbers; the network's outputs as they are, or by the training targets' mean and scale."""

    LOSSES: ClassVar[tuple[str, ...]] = ("mse", "mae", "huber", "log_cosh", "quantile")
    ALIASES: ClassVar[Mapping[str, str]] = {
        "mean_squared_error": "mse",
        "squared_error": "mse",
        "mean_absolute_error": "mae",
        "absolute_error": "mae",
        "logcosh": "log_cosh",
        "pinball": "quantile",
    }
    METRICS: ClassVar[tuple[str, ...]] = ("mse", "mae")
    DEFAULTS: ClassVar[Mapping[str, Any]] = {"delta": 1.0, "level": 0.5}
    name: ClassVar[str] = "regression"

    def of_each(
        self, outputs: Array, y: Array, numbers: Mapping[str, Array], *, train: bool
    ) -> tuple[Array, list[Array]]:
        """The loss, of standardised targets where there is a scale, and errors in their units."""
        n = numbers
        branches = {
            "mse": objective.squared_error,
            "mae": objective.absolute_error,
            "huber": lambda z, y: objective.huber(z, y, n["delta"]),
            "log_cosh": objective.log_cosh,
            "quantile": lambda z, y: objective.pinball(z, y, n["level"]),
        }
        given = self.predictions(outputs, numbers)
        metrics = [objective.squared_error(given, y), objective.absolute_error(given, y)]
        if "target_scale" in numbers:
            mean, scale = (_aligned(n[key], y) for key in ("target_mean", "target_scale"))
            y = (y - mean) / scale
        return self._chosen(branches, numbers, outputs, y), metrics

    def predictions(self, outputs: Array, numbers: Mapping[str, Array]) -> Array:
        """Numbers in the targets' units."""
        if "target_scale" not in numbers:
            return outputs
        mean, scale = (_aligned(numbers[key], outputs) for key in ("target_mean", "target_scale"))
        return outputs * scale + mean


def _aligned(vector: Any, like: Array) -> Array:
    """``[D]`` with as many axes as ``like [..., D]``."""
    return lax.expand_dims(jnp.asarray(vector), tuple(range(like.ndim - 1)))
