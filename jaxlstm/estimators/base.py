"""What all estimators share: a fit is one lane of the same programs that a search runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from sklearn.utils import check_random_state

from jaxlstm.estimators.inputs import weight_of
from jaxlstm.estimators.prediction import Predictor
from jaxlstm.estimators.targets import Targets
from jaxlstm.grid import programs
from jaxlstm.grid.groups import Lane
from jaxlstm.grid.outcome import INTERRUPTED, LaneRun, Outcome
from jaxlstm.grid.plan import default_layout, make_plan
from jaxlstm.grid.run import execute
from jaxlstm.grid.space import Fold, Network, Problem, Trial, fit_scales, hold_out
from jaxlstm.train import optimizers, standardization, stopping
from jaxlstm.train.data import Data, counted_rows, joined
from jaxlstm.train.standardization import Units
from jaxlstm.train.trial import State, Weights, takes_lengths


class Estimator(Predictor):
    """Training: from the beginning, or on from a trained state."""

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
    ) -> Any:
        """Trains on rows ``X`` with targets ``y``.

        Args:
          X: rows: an array ``[N, ...]``, whose sequences ``[N, T, F]`` may end in steps of NaN; a list
            of arrays ``[T_i, F]``; or a `jaxlstm.data.SequenceData`. Numbers, converted to float32
            (float64 where JAX is set so).
          y: a target per row or, with ``return_sequences``, per step; None for those of a
            `jaxlstm.data.SequenceData`.
          sample_weight: what each row counts for, ``[N]``, or with a target per step each step, ``[N,
            T]`` or a list of arrays. A batch's loss is the weighted mean, so that a weight of 2 is
            a row given twice, and rows of weight 0 are left out.
          validation_data: ``(X, y)`` or ``(X, y, sample_weight)`` to evaluate on after each epoch.

        Returns:
          self, with `history_` (Keras's names: loss, accuracy or mse and mae, the same with ``val_``,
          and learning_rate, one value an epoch), `best_epoch_` (the place in it of the epoch whose
          weights were kept, the last one unless ``restore_best_weights``) and `params_`, the Flax
          parameters; a classifier has `classes_`.

        Raises:
          TypeError, ValueError: bad data, or a bad value of a parameter.
        """
        goes_on = bool(self.warm_start) and hasattr(self, "network_")
        classes = getattr(self, "classes_", None) if goes_on else None
        weight = weight_of(X, sample_weight)
        known = self._known_units() if goes_on else {}
        data, targets, given = self._check_data(X, y, weight, classes=classes, **known)
        rows = np.arange(len(data.x))
        fold = Fold(counted_rows(data, rows), rows[:0])
        network = self._network(data, fold.train, targets)
        seed = self._seed()
        if validation_data is not None:
            more = self._check_validation(validation_data, data, targets, given.units)
            data = joined(data, more, targets.task.per_step)
            fold = Fold(fold.train, counted_rows(data, np.arange(len(rows), len(data.x))))
        elif network.holds_out:
            fold = hold_out(fold, targets.task.strata(data.y), network.holds_out, seed)
        elif network.watches_validation:
            raise ValueError(
                "a metric of validation rows is watched (early stopping, restore_best_weights or the"
                " plateau schedule), but there are none: give validation_data, a"
                " validation_fraction above 0, or watch 'loss' or another metric of training."
            )
        network = self._with_scales(network, data, fold.train, given.units, goes_on)
        return self._train(network, data, fold, targets, seed, goes_on)

    def _known_units(self) -> dict[str, Any]:
        """What inputs and targets are written in where training goes on."""
        known: dict[str, Any] = {}
        h = self.network_.hyperparameters
        if h.standardization is not None and self.standardize:
            known["units"] = self.network_.units or standardization.AS_GIVEN
        if "target_scale" in h.task and self._standardizes_targets():
            known["center"] = self.targets_.center
        return known

    def _check_validation(
        self, given: Any, data: Data, targets: Targets, units: Units | None
    ) -> Data:
        """Rows to evaluate on, as those to train on."""
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise ValueError(
                "validation_data must be (X, y) or (X, y, sample_weight), got"
                f" {type(given).__name__} of {len(given) if hasattr(given, '__len__') else 'no'}"
                " entries."
            )
        weight = weight_of(given[0], given[2] if len(given) == 3 else None)
        try:
            more, own, _ = self._check_data(
                given[0],
                given[1],
                weight,
                classes=targets.classes,
                reset=False,
                units=units,
                center=targets.center,
            )
        except ValueError as error:
            raise ValueError(f"validation_data: {error}") from error
        shapes = [
            part.x.shape[2:] if part.x.ndim > 2 else part.x.shape[1:] for part in (data, more)
        ]
        takes = takes_lengths(self._module(targets.outputs))
        if shapes[0] != shapes[1] or (not takes and data.x.shape[1:] != more.x.shape[1:]):
            raise ValueError(
                f"each row of X must have the shape {data.x.shape[1:]} that the training rows have, got"
                f" {more.x.shape[1:]} in validation_data."
            )
        if (own.outputs, own.task) != (targets.outputs, targets.task):
            raise ValueError("validation_data: its targets are of another kind than y.")
        return more

    def _with_scales(
        self,
        network: Network,
        data: Data,
        rows: np.ndarray,
        units: Units | None,
        goes_on: bool,
    ) -> Network:
        """The network with what inputs and targets are standardised by."""
        if goes_on:
            known = self.network_.hyperparameters
            if network.structure.standardizes and known.standardization is not None:
                network = network.standardized(known.standardization, units)
            if network.standardizes_targets and "target_scale" in known.task:
                task = known.task
                scale = standardization.Standardization(task["target_mean"], task["target_scale"])
                network = network.with_targets(scale)
        return fit_scales(network, data, rows, units)

    def _train(
        self,
        network: Network,
        data: Data,
        fold: Fold,
        targets: Targets,
        seed: int,
        goes_on: bool,
    ) -> Any:
        trial = Trial(0, 0, 0, seed, 0, 0, network, {})
        problem = Problem([trial], [fold], [data])
        plan = make_plan(problem, layout=default_layout(problem), measure=False)
        begun = {}
        # Where a search saves its refit.
        checkpoint = None if goes_on else getattr(self, "_checkpoint", None)
        if goes_on:
            state = self._state_to_go_on_from(network, data.x.shape[1:])
            begun[0] = LaneRun.new(problem, Lane((0,)), state)
        options: Any = {"begun": begun, "keep_runs": True, "checkpoint": checkpoint}
        options["keep_weights"] = checkpoint is not None
        if self.verbose:
            from jaxlstm.grid.progress import LiveProgress

            with LiveProgress(plan, problem, verbose=self.verbose) as progress:
                (outcome,) = execute(plan, problem, progress=progress, **options)
        else:
            (outcome,) = execute(plan, problem, **options)
        if outcome.failed == INTERRUPTED:
            raise KeyboardInterrupt
        if outcome.failed:
            rate = float(network.hyperparameters.learning_rate)
            raise ValueError(
                f"training failed: {outcome.failed}. A smaller learning_rate than {rate:g} or scaled"
                " inputs usually help."
            )
        steps = data.x.shape[1:]
        return self._adopt(outcome, network, targets, steps)

    def _adopt(
        self, outcome: Outcome, network: Network, targets: Targets, shape: tuple[int, ...]
    ) -> Any:
        """Becomes the fitted estimator that a finished trial stands for."""
        self._adopt_targets(targets)
        self.network_ = network
        self.targets_ = targets
        self.params_, self.collections_ = outcome.params, outcome.collections
        self.sample_shape_ = shape
        names = {name: name.removeprefix("train_") for name in outcome.curves}
        self.history_ = {names[name]: list(values) for name, values in outcome.curves.items()}
        self.best_epoch_ = outcome.last
        self._state = None
        if outcome.run is not None and outcome.run.state is not None:
            # JAX's random keys cannot be pickled; of the weights there is one copy.
            state = outcome.run.state
            weights = Weights(self.params_, self.collections_)
            words = np.asarray(jax.random.key_data(state.key))
            self._state = state._replace(weights=weights, best=weights, key=words)
        return self

    def _state_to_go_on_from(self, network: Network, row_shape: tuple[int, ...]) -> State:
        """The trained state, with monitors that begin anew.

        Without one (a lane of a search) the optimizer begins anew as well, as it does where it is
        another one now.
        """
        h, before = network.hyperparameters, self.network_.hyperparameters
        weights = Weights(self.params_, self.collections_)
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(weights.params)]
        row = jax.ShapeDtypeStruct((1, *row_shape), h.learning_rate.dtype)
        like = programs.weights_shape(network.structure, row)
        if shapes != [leaf.shape for leaf in jax.tree.leaves(like.params)]:
            raise ValueError(
                f"{type(self).__name__} cannot go on from the trained weights: they were trained on"
                f" rows of shape {self.sample_shape_}, or for another network; now rows have the shape"
                f" {row_shape}."
            )
        state: Any = self._state
        if state is None:
            zero: Any = np.zeros((), np.int32)
            nothing: Any = None
            words: Any = np.asarray(jax.random.key_data(programs.random_key(self._seed())))
            state = State(weights, weights, nothing, zero, zero, nothing, words)
        slots = state.slots
        if slots is None or int(h.optimizer) != int(before.optimizer):
            slots = optimizers.init(weights.params, h, network.structure.optimizers)
        monitors = stopping.init(h, h.learning_rate.dtype)
        if state.stopping is not None:  # a plateau has left the rate where it is
            cut = state.stopping.plateau_rate / before.learning_rate
            monitors = monitors._replace(plateau_rate=monitors.plateau_rate * cut)
        key = programs.wrap_key(state.key)
        monitors = jax.tree.map(np.asarray, monitors)
        going_on: State = state._replace(slots=slots, stopping=monitors, key=key)
        return going_on

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, *, sample_weight: Any = None
    ) -> Any:
        """Trains for one epoch on these rows, going on from the trained state if there is one.

        Early stopping and the choice of the best weights do not act. Inputs and targets are
        standardised by the rows of the first call.

        Args:
          X: rows, as for `fit`.
          y: their targets.
          classes: of a classifier all classes, in the first call where y may lack some.
          sample_weight: see `fit`.

        Returns:
          self.
        """
        goes_on = hasattr(self, "network_")
        if goes_on:
            known = getattr(self, "classes_", None)
            if (
                classes is not None
                and known is not None
                and not np.array_equal(np.unique(classes), known)
            ):
                raise ValueError(
                    f"classes={classes!r} is not the same as on last call to partial_fit, was: {known}"
                )
            classes = known
        weight = weight_of(X, sample_weight)
        units = self._known_units() if goes_on else {}
        data, targets, rows = self._check_data(
            X, y, weight, classes=classes, reset=not goes_on, **units
        )
        if goes_on:
            padded = self._check_shape(rows)
            data = data._replace(x=padded.x, lengths=padded.lengths)
            if targets.task.per_step:
                more = padded.x.shape[1] - data.y.shape[1]
                data = _with_steps(data, more)
        numbers = counted_rows(data, np.arange(len(data.x)))
        network = self._network(data, numbers, targets)
        h = network.hyperparameters
        h = h._replace(early_stopping=np.zeros_like(h.early_stopping))
        network = dataclasses.replace(network, hyperparameters=h, epochs=1, keeps_best=False)
        network = self._with_scales(network, data, numbers, rows.units, goes_on)
        fold = Fold(numbers, numbers[:0])
        shape = self.sample_shape_ if goes_on else None
        self._train(network, data, fold, targets, self._seed(), goes_on)
        if shape is not None:
            self.sample_shape_ = shape
        return self


def _with_steps(data: Data, more: int) -> Data:
    """Targets and weights per step, padded to further steps."""

    def padded(part: Any) -> Any:
        if part is None or part.ndim < 2:
            return part
        return np.pad(part, [(0, 0), (0, more), *[(0, 0)] * (part.ndim - 2)])

    return data._replace(y=padded(data.y), weight=padded(data.weight))
