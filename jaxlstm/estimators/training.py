"""The training parameters that all estimators have: names, defaults and what they mean, once."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from jaxlstm.train.hyperparameters import DEFAULTS, nearest

Class = TypeVar("Class", bound=type)


class Parameter(NamedTuple):
    """A parameter of an estimator."""

    default: Any
    doc: str


def _training(**docs: str) -> dict[str, Parameter]:
    return {name: Parameter(DEFAULTS[name], doc) for name, doc in docs.items()}


TRAINING: dict[str, Parameter] = _training(
    optimizer="""
        "adam", "adamw", "nadam", "rmsprop", "sgd", "adadelta", "adagrad", "ftrl", "lion", "adamax" or
        "lamb".""",
    learning_rate="""
        step size, the highest one of a schedule; None: Keras's, 0.01 for sgd, else 0.001.""",
    momentum="of sgd and rmsprop.",
    nesterov="whether sgd's momentum is Nesterov's.",
    beta_1="decay of the mean of gradients (adam, adamw, nadam, adamax, lamb, lion).",
    beta_2="""
        decay of the mean of squared gradients, for lion of its momentum; None: 0.999, lion 0.99.""",
    amsgrad="whether adam and adamw divide by the largest of those means so far.",
    rho="decay of rmsprop's and adadelta's mean of squares; None: 0.9, adadelta 0.95.",
    centered="whether rmsprop divides by the deviation of gradients instead.",
    epsilon="keeps divisions finite.",
    weight_decay="decoupled weight decay of any optimizer; None: 0.004 for adamw, else 0.",
    exclude_from_weight_decay="""
        regular expressions; parameters in whose names one is found, such as "bias" in
        "Dense_0/bias", keep their weight. Every value is a program of its own.""",
    initial_accumulator_value="of adagrad and ftrl.",
    learning_rate_power="of ftrl, as are the next four.",
    l1_regularization_strength="of ftrl.",
    l2_regularization_strength="of ftrl.",
    l2_shrinkage_regularization_strength="of ftrl.",
    beta="of ftrl.",
    clipnorm="""
        largest norm of each parameter's gradient; None: off. One of the three at most.""",
    clipvalue="largest absolute value of a gradient's entries.",
    global_clipnorm="largest norm of all gradients together.",
    schedule="""
        how the learning rate goes: "constant", "step", "exponential", "inverse_time", "polynomial",
        "cosine", "cosine_restarts", "piecewise", "piecewise_linear", "piecewise_cosine", "onecycle",
        "linear_onecycle" or "plateau"; see
        `jaxlstm.train.schedules.learning_rate` for it and its numbers. Time is in epochs.""",
    warmup_epochs="epochs over which the learning rate rises.",
    warmup_learning_rate="where it rises from.",
    decay_epochs="""
        period of "step", "exponential", "inverse_time", "polynomial", and the first one of
        "cosine_restarts".""",
    decay_rate="factor on the learning rate a period.",
    staircase='whether "inverse_time" counts whole periods alone; of "exponential" that is "step".',
    end_value='where "exponential" and "step" end; None: nowhere.',
    alpha="""
        lowest learning rate of "cosine" and "cosine_restarts", as a share of the highest.""",
    exponent='of the half cosine of "cosine".',
    end_learning_rate='where "polynomial" ends.',
    power='of "polynomial".',
    cycle='whether "polynomial" starts again after each period.',
    t_mul='factor on the period of "cosine_restarts" at each restart.',
    m_mul="factor on its learning rate at each restart.",
    boundaries='epochs at which the "piecewise" ones change, 16 at most.',
    values="its learning rates, one more than boundaries.",
    pct_start='share of "onecycle" and "linear_onecycle" in which the learning rate rises.',
    pct_final='share of "linear_onecycle" after which it is where it began.',
    div_factor='the highest learning rate of "onecycle" by the first.',
    final_div_factor="its first by its last.",
    plateau_monitor='what "plateau" watches; see ``monitor``.',
    plateau_factor="factor on the learning rate when it stalls.",
    plateau_patience="epochs without improvement before that.",
    plateau_min_delta="least change that counts as an improvement.",
    cooldown="epochs after a cut before it watches again.",
    min_lr="lower bound of the learning rate.",
    early_stopping="""
        whether to stop when a metric no longer improves (Keras's `EarlyStopping`).""",
    monitor="""
        that metric: "loss", "val_loss", or a metric's name, with "val_" for validation rows. A
        classifier has "accuracy" (Keras's: of several labels the share of those that are right), a
        regressor "mse" and "mae".""",
    patience="epochs without improvement before it stops.",
    mode='"min" or "max": whether less or more of it is better; "auto": by its name.',
    min_delta="least change that counts as an improvement.",
    baseline="""
        what it has to be better than, too, for patience to begin anew (Keras's); None: nothing.""",
    start_from_epoch="epochs before it begins to watch.",
    restore_best_weights="whether to end with the weights of the best epoch, early or not.",
    best_monitor="the metric that says which that is; None: ``monitor`` and ``min_delta``.",
    epochs="passes over the training rows.",
    batch_size="rows of an optimizer step.",
    l2="weight of the sum of squares of all kernels in the loss (Keras's L2).",
)

#: Of both kinds of estimators, after the others.
DATA: dict[str, Parameter] = {
    "augment": Parameter(
        (),
        """
        what training rows go through before the network sees them, other random changes for each
        row and epoch: an augmentation of `jaxlstm.train.augment` or a tuple of them, in order;
        ``()``: none. A row of X is an image ``[H, W]`` to those of images, a sequence ``[T, F]`` to
        the others. Loss and metrics of training are of the changed rows.""",
    ),
    "standardize": Parameter(
        False,
        """
        whether to bring each feature (the last axis of X) to mean 0 and standard deviation 1, by
        the rows that are trained on alone, over all their own steps, by their weights; a constant
        feature is only centred. It is kept with the fitted estimator, and follows augmentation.
        Means and deviations are of X as given, in float64; augmentations see a feature that float32
        cannot hold, such as Unix times, less its mean.""",
    ),
    "validation_fraction": Parameter(
        0.1,
        """
        share of the training rows, stratified by label, on which val_ metrics are watched where
        early stopping, the best weights or "plateau" do so and `fit` gets no validation_data
        (scikit-learn's). 0 in a search: they watch the fold that scores them, which flatters.""",
    ),
    "warm_start": Parameter(
        False,
        """
        whether a second `fit` goes on from the trained state, optimizer and step included, with
        early stopping beginning anew; inputs and targets stay standardised as they were.""",
    ),
    "random_state": Parameter(
        None,
        """
        seed of initial weights, shuffling, dropout and augmentation: an integer, a NumPy
        RandomState or None for another one each time.""",
    ),
    "verbose": Parameter(
        0,
        """
        0 shows nothing; 1 a progress bar on a terminal, lines elsewhere; 2 a line for each epoch.""",
    ),
}

CLASSIFIER: dict[str, Parameter] = {
    "loss": Parameter(
        "cross_entropy",
        """
        "cross_entropy" or "focal" (Lin et al., arXiv:1708.02002), of softmax for one label and of
        sigmoids for several, or a function ``(labels, logits)`` that returns a value for each row (or
        step); a function is a program of its own.""",
    ),
    "label_smoothing": Parameter(0.0, "share of a label spread over all classes."),
    "gamma": Parameter(2.0, 'exponent of "focal".'),
    "focal_alpha": Parameter(
        0.25, 'factor of "focal" with one label, as in Keras\'s `CategoricalFocalCrossentropy`.'
    ),
    "classes": Parameter(None, "all classes, where y may lack some; None: those of y."),
    "class_weight": Parameter(
        None, 'None, "balanced" (scikit-learn\'s) or a dict of class: weight; for one label.'
    ),
}

REGRESSOR: dict[str, Parameter] = {
    "loss": Parameter(
        "mse",
        """
        "mse", "mae", "huber", "log_cosh" or "quantile", or a function ``(targets, outputs)`` that
        returns a value for each row (or step); a function is a program of its own.""",
    ),
    "delta": Parameter(1.0, 'where "huber" turns from squared to absolute error.'),
    "level": Parameter(0.5, 'the quantile that "quantile" predicts, in (0, 1).'),
    "standardize_targets": Parameter(
        False,
        """
        whether to train on targets of mean 0 and standard deviation 1, by the training rows alone.
        Loss, `delta` included, is then in those units; metrics and predictions stay in the
        targets'.""",
    ),
}

RETURN_SEQUENCES = {
    "return_sequences": Parameter(
        False, "whether every step has a target (Keras's name), instead of every row."
    )
}

_MARK = "{training}"


def with_parameters(*tables: Mapping[str, Parameter]) -> Callable[[Class], Class]:
    """Class decorator: the parameters of these tables follow those of the class's own `__init__`.

    The `__init__` that it makes sets every parameter as an attribute, as scikit-learn wants it. In
    the class's docstring it puts their description in place of ``{training}``.
    """
    table = {name: parameter for part in tables for name, parameter in part.items()}

    def decorate(cls: Class) -> Class:
        declared = cls.__init__  # type: ignore[misc]
        own = [
            parameter
            for parameter in inspect.signature(declared).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        keyword = inspect.Parameter.KEYWORD_ONLY
        more = [
            inspect.Parameter(name, keyword, default=one.default, annotation="Any")
            for name, one in table.items()
        ]
        signature = inspect.Signature([*own, *more])

        @functools.wraps(declared)
        def __init__(self: Any, *args: Any, **params: Any) -> None:
            for name in params:
                if name not in signature.parameters:
                    raise TypeError(
                        f"{name!r} is not a parameter of {cls.__name__}."
                        f"{nearest(name, signature.parameters)}"
                    )
            bound = signature.bind(self, *args, **params)
            bound.apply_defaults()
            for name, value in list(bound.arguments.items())[1:]:
                setattr(self, name, value)

        for parameter in signature.parameters.values():  # of a subclass that calls no `__init__`
            if parameter.default is not parameter.empty:
                setattr(cls, parameter.name, parameter.default)
        __init__.__signature__ = signature  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[misc]
        if cls.__doc__:
            # From Python 3.13 on, docstrings have lost their indentation.
            indent = re.search(rf"^( *){re.escape(_MARK)}", cls.__doc__, re.MULTILINE)
            if indent is not None:
                text = _described(table, indent[1])
                cls.__doc__ = cls.__doc__.replace(indent[0], text)
        return cls

    return decorate


def _described(table: Mapping[str, Parameter], indent: str) -> str:
    lines = []
    for name, parameter in table.items():
        text = f"{name}: {' '.join(parameter.doc.split())}"
        further = indent + "  "
        lines.append(textwrap.fill(text, 98, initial_indent=indent, subsequent_indent=further))
    return "\n".join(lines)
