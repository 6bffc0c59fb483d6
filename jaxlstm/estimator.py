"""Classifiers with scikit-learn's interface."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import numpy as np

from jaxlstm.classifier import Classifier
from jaxlstm.nn.layers import MERGES
from jaxlstm.nn.networks import ACTIVATIONS, LSTMClassifierNetwork
from jaxlstm.train import hyperparameters


class FlaxClassifier(Classifier):
    """Trains any Flax (linen) module as a classifier.

    The module maps ``[B, ...]`` to logits ``[B, C]``; its ``__call__`` may take ``train``, ``training``
    or ``deterministic``; it may draw from the "dropout" stream and keep batch statistics. Its fields
    are parameters named ``module__field``. Those that it lists in an attribute ``traced_fields`` may
    differ between the lanes of one program; every value of another one is a program of its own.

    Parameters have Keras's names, defaults and numbers where Keras has them.

    Args:
      module: the network, unbound.
      optimizer: "adam", "adamw", "nadam", "rmsprop", "sgd", "adadelta", "adagrad", "ftrl" or "lion".
      learning_rate: step size, the highest one of a schedule; None: Keras's, 0.01 for sgd, else 0.001.
      momentum: of sgd and rmsprop.
      nesterov: whether sgd's momentum is Nesterov's.
      beta_1: decay of the mean of gradients (adam, adamw, nadam, lion).
      beta_2: decay of the mean of squared gradients, for lion of its momentum; None: 0.999, lion 0.99.
      rho: decay of rmsprop's and adadelta's mean of squares; None: 0.9, adadelta 0.95.
      epsilon: keeps divisions finite.
      weight_decay: decoupled weight decay of any optimizer; None: 0.004 for adamw, else 0.
      initial_accumulator_value: of adagrad and ftrl.
      learning_rate_power: of ftrl, as are the next four.
      l1_regularization_strength: of ftrl.
      l2_regularization_strength: of ftrl.
      l2_shrinkage_regularization_strength: of ftrl.
      beta: of ftrl.
      clipnorm: largest norm of each parameter's gradient; None: off. One of the three at most.
      clipvalue: largest absolute value of a gradient's entries.
      global_clipnorm: largest norm of all gradients together.
      schedule: how the learning rate goes: "constant", "step", "exponential", "inverse_time",
        "polynomial", "cosine", "cosine_restarts", "piecewise", "onecycle" or "plateau"; see
        `jaxlstm.train.schedules.learning_rate` for it and its numbers. Time is in epochs.
      warmup_epochs: epochs over which the learning rate rises from 0.
      decay_epochs: period of "step", "exponential", "inverse_time", "polynomial", and the first one of
        "cosine_restarts".
      decay_rate: factor on the learning rate a period.
      alpha: lowest learning rate of "cosine" and "cosine_restarts", as a share of the highest.
      end_learning_rate: where "polynomial" ends.
      power: of "polynomial".
      cycle: whether "polynomial" starts again after each period.
      t_mul: factor on the period of "cosine_restarts" at each restart.
      m_mul: factor on its learning rate at each restart.
      boundaries: epochs at which "piecewise" changes, 16 at most.
      values: its learning rates, one more than boundaries.
      pct_start: share of "onecycle" in which the learning rate rises.
      div_factor: the highest learning rate of "onecycle" by the first.
      final_div_factor: its first by its last.
      plateau_monitor: what "plateau" watches: "loss", "accuracy", "val_loss" or "val_accuracy".
      plateau_factor: factor on the learning rate when it stalls.
      plateau_patience: epochs without improvement before that.
      plateau_min_delta: least change that counts as an improvement.
      cooldown: epochs after a cut before it watches again.
      min_lr: lower bound of the learning rate.
      early_stopping: whether to stop when a metric no longer improves (Keras's `EarlyStopping`).
      monitor: that metric: "loss", "accuracy", "val_loss" or "val_accuracy".
      patience: epochs without improvement before it stops.
      min_delta: least change that counts as an improvement.
      start_from_epoch: epochs before it begins to watch.
      restore_best_weights: whether to end with the weights of the best epoch, early or not.
      best_monitor: the metric that says which that is; None: ``monitor`` and ``min_delta``.
      epochs: passes over the training rows.
      batch_size: rows of an optimizer step.
      l2: weight of the sum of squares of all kernels in the loss (Keras's L2).
      label_smoothing: share of a label spread over all classes.
      class_weight: None, "balanced" (scikit-learn's) or a dict of class: weight.
      augment: what training rows go through before the network sees them, other random changes for
        each row and epoch: an augmentation of `jaxlstm.train.augment` or a tuple of them, in order;
        ``()``: none. A row of X is an image ``[H, W]`` to those of images, a sequence ``[T, F]`` to
        the others. Loss and accuracy of training are of the changed rows.
      standardize: whether to bring each feature (the last axis of X) to mean 0 and standard deviation
        1, by the rows that are trained on alone, over all their steps; a constant feature is only
        centred. It is kept with the fitted classifier, and follows augmentation.
      validation_fraction: share of the training rows, stratified, on which val_ metrics are watched
        where early stopping, the best weights or "plateau" do so and `fit` gets no validation_data
        (scikit-learn's). 0 in a search: they watch the fold that scores them, which flatters.
      random_state: seed of initial weights, shuffling, dropout and augmentation: an integer, a NumPy
        RandomState or None for another one each time.
      verbose: 1 shows a progress bar.

    Example:
      >>> import numpy as np
      >>> from jaxlstm.nn import MLP
      >>> X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
      >>> y = np.where(X.sum(1) > 0, "up", "down")
      >>> model = FlaxClassifier(MLP(classes=2, units=(8,)), epochs=60, random_state=0)
      >>> model.set_params(learning_rate=0.02).fit(X, y).score(X, y) > 0.9
      True
    """

    def __init__(
        self,
        module: Any = None,
        *,
        optimizer: str = "adam",
        learning_rate: float | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float | None = None,
        rho: float | None = None,
        epsilon: float = 1e-07,
        weight_decay: float | None = None,
        initial_accumulator_value: float = 0.1,
        learning_rate_power: float = -0.5,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        schedule: str = "constant",
        warmup_epochs: float = 0,
        decay_epochs: float = 10,
        decay_rate: float = 0.5,
        alpha: float = 0.0,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        boundaries: Any = (),
        values: Any = (),
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 10000.0,
        plateau_monitor: str = "val_loss",
        plateau_factor: float = 0.1,
        plateau_patience: int = 10,
        plateau_min_delta: float = 0.0001,
        cooldown: int = 0,
        min_lr: float = 0.0,
        early_stopping: bool = False,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        start_from_epoch: int = 0,
        restore_best_weights: bool = False,
        best_monitor: str | None = None,
        epochs: int = 100,
        batch_size: int = 32,
        l2: float = 0.0,
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        augment: Any = (),
        standardize: bool = False,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.module = module
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.rho = rho
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.initial_accumulator_value = initial_accumulator_value
        self.learning_rate_power = learning_rate_power
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.schedule = schedule
        self.warmup_epochs = warmup_epochs
        self.decay_epochs = decay_epochs
        self.decay_rate = decay_rate
        self.alpha = alpha
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.boundaries = boundaries
        self.values = values
        self.pct_start = pct_start
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.plateau_monitor = plateau_monitor
        self.plateau_factor = plateau_factor
        self.plateau_patience = plateau_patience
        self.plateau_min_delta = plateau_min_delta
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.early_stopping = early_stopping
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.start_from_epoch = start_from_epoch
        self.restore_best_weights = restore_best_weights
        self.best_monitor = best_monitor
        self.epochs = epochs
        self.batch_size = batch_size
        self.l2 = l2
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.augment = augment
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    def _module(self, classes: int) -> nn.Module:
        if not isinstance(self.module, nn.Module):
            raise TypeError(
                f"module must be a flax.linen module, made but not bound, got {self.module!r}."
            )
        return self.module


class LSTMClassifier(Classifier):
    """Stacked LSTM with a dense head as a classifier.

    Rows are sequences ``[N, T, F]``; a 2-D ``X [N, T]`` is taken as sequences of scalars.

    Args:
      units: units of each LSTM layer, an integer for one layer.
      dense: units of each dense layer after the last LSTM state.
      dropout: rate after every LSTM layer but the last, or, with one layer, on its last state.
      dense_dropout: rate after each dense layer.
      recurrent_dropout: rate on the way into the recurrent product, see `LSTM`; every value but 0
        is a lane of one program, and 0 is of another.
      bidirectional: whether the LSTM layers run in both directions.
      merge: how directions are merged: "concat", "sum", "mean" or "mul".
      activation: of the dense layers.
      optimizer: this and all that follow are `FlaxClassifier`'s.
      learning_rate: see `FlaxClassifier`.
      momentum: see `FlaxClassifier`.
      nesterov: see `FlaxClassifier`.
      beta_1: see `FlaxClassifier`.
      beta_2: see `FlaxClassifier`.
      rho: see `FlaxClassifier`.
      epsilon: see `FlaxClassifier`.
      weight_decay: see `FlaxClassifier`.
      initial_accumulator_value: see `FlaxClassifier`.
      learning_rate_power: see `FlaxClassifier`.
      l1_regularization_strength: see `FlaxClassifier`.
      l2_regularization_strength: see `FlaxClassifier`.
      l2_shrinkage_regularization_strength: see `FlaxClassifier`.
      beta: see `FlaxClassifier`.
      clipnorm: see `FlaxClassifier`.
      clipvalue: see `FlaxClassifier`.
      global_clipnorm: see `FlaxClassifier`.
      schedule: see `FlaxClassifier`.
      warmup_epochs: see `FlaxClassifier`.
      decay_epochs: see `FlaxClassifier`.
      decay_rate: see `FlaxClassifier`.
      alpha: see `FlaxClassifier`.
      end_learning_rate: see `FlaxClassifier`.
      power: see `FlaxClassifier`.
      cycle: see `FlaxClassifier`.
      t_mul: see `FlaxClassifier`.
      m_mul: see `FlaxClassifier`.
      boundaries: see `FlaxClassifier`.
      values: see `FlaxClassifier`.
      pct_start: see `FlaxClassifier`.
      div_factor: see `FlaxClassifier`.
      final_div_factor: see `FlaxClassifier`.
      plateau_monitor: see `FlaxClassifier`.
      plateau_factor: see `FlaxClassifier`.
      plateau_patience: see `FlaxClassifier`.
      plateau_min_delta: see `FlaxClassifier`.
      cooldown: see `FlaxClassifier`.
      min_lr: see `FlaxClassifier`.
      early_stopping: see `FlaxClassifier`.
      monitor: see `FlaxClassifier`.
      patience: see `FlaxClassifier`.
      min_delta: see `FlaxClassifier`.
      start_from_epoch: see `FlaxClassifier`.
      restore_best_weights: see `FlaxClassifier`.
      best_monitor: see `FlaxClassifier`.
      epochs: see `FlaxClassifier`.
      batch_size: see `FlaxClassifier`.
      l2: see `FlaxClassifier`.
      label_smoothing: see `FlaxClassifier`.
      class_weight: see `FlaxClassifier`.
      augment: see `FlaxClassifier`.
      standardize: see `FlaxClassifier`.
      validation_fraction: see `FlaxClassifier`.
      random_state: see `FlaxClassifier`.
      verbose: see `FlaxClassifier`.

    Example:
      >>> import numpy as np
      >>> X = np.random.default_rng(0).normal(size=(60, 5, 2)).astype("float32")
      >>> y = (X[:, :, 0].sum(1) > 0).astype(int)
      >>> model = LSTMClassifier(units=8, learning_rate=0.02, epochs=60, random_state=0)
      >>> model.fit(X, y).predict_proba(X).shape
      (60, 2)
    """

    def __init__(
        self,
        units: Any = (64,),
        *,
        dense: Any = (),
        dropout: float = 0.0,
        dense_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        bidirectional: bool = False,
        merge: str = "concat",
        activation: str = "relu",
        optimizer: str = "adam",
        learning_rate: float | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float | None = None,
        rho: float | None = None,
        epsilon: float = 1e-07,
        weight_decay: float | None = None,
        initial_accumulator_value: float = 0.1,
        learning_rate_power: float = -0.5,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        schedule: str = "constant",
        warmup_epochs: float = 0,
        decay_epochs: float = 10,
        decay_rate: float = 0.5,
        alpha: float = 0.0,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        boundaries: Any = (),
        values: Any = (),
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 10000.0,
        plateau_monitor: str = "val_loss",
        plateau_factor: float = 0.1,
        plateau_patience: int = 10,
        plateau_min_delta: float = 0.0001,
        cooldown: int = 0,
        min_lr: float = 0.0,
        early_stopping: bool = False,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        start_from_epoch: int = 0,
        restore_best_weights: bool = False,
        best_monitor: str | None = None,
        epochs: int = 100,
        batch_size: int = 32,
        l2: float = 0.0,
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        augment: Any = (),
        standardize: bool = False,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.units = units
        self.dense = dense
        self.dropout = dropout
        self.dense_dropout = dense_dropout
        self.recurrent_dropout = recurrent_dropout
        self.bidirectional = bidirectional
        self.merge = merge
        self.activation = activation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.rho = rho
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.initial_accumulator_value = initial_accumulator_value
        self.learning_rate_power = learning_rate_power
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.schedule = schedule
        self.warmup_epochs = warmup_epochs
        self.decay_epochs = decay_epochs
        self.decay_rate = decay_rate
        self.alpha = alpha
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.boundaries = boundaries
        self.values = values
        self.pct_start = pct_start
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.plateau_monitor = plateau_monitor
        self.plateau_factor = plateau_factor
        self.plateau_patience = plateau_patience
        self.plateau_min_delta = plateau_min_delta
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.early_stopping = early_stopping
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.start_from_epoch = start_from_epoch
        self.restore_best_weights = restore_best_weights
        self.best_monitor = best_monitor
        self.epochs = epochs
        self.batch_size = batch_size
        self.l2 = l2
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.augment = augment
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    def _module(self, classes: int) -> nn.Module:
        hyperparameters.check_choice("merge", self.merge, MERGES)
        hyperparameters.check_choice("activation", self.activation, ACTIVATIONS)
        if not isinstance(self.bidirectional, bool | np.bool_):
            raise TypeError(f"bidirectional must be True or False, got {self.bidirectional!r}.")
        return LSTMClassifierNetwork(
            classes=classes,
            units=hyperparameters.check_sizes("units", self.units, least=1),
            dense=hyperparameters.check_sizes("dense", self.dense, least=0),
            dropout=self.dropout,
            dense_dropout=self.dense_dropout,
            recurrent_dropout=self.recurrent_dropout,
            bidirectional=bool(self.bidirectional),
            merge=self.merge,
            activation=self.activation,
        )

    def _as_input(self, x: np.ndarray) -> np.ndarray:
        if x.ndim == 2:
            return x[:, :, None]
        if x.ndim != 3:
            raise ValueError(
                f"LSTMClassifier takes X of shape [N, T, F] or [N, T], got {x.shape}. Images of"
                " several channels can be reshaped to [N, height, width * channels]."
            )
        return x
