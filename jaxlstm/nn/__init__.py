"""The mathematics: pure functions and Flax (linen) modules."""

from jaxlstm.nn.convert import from_keras, from_torch, to_keras, to_torch
from jaxlstm.nn.convolutions import CNN, CNNLSTM, Conv1D
from jaxlstm.nn.layers import LSTM, Bidirectional, Dropout, LSTMCell, StackedLSTM
from jaxlstm.nn.networks import MLP, LSTMClassifierNetwork, RowColumnBiLSTM
from jaxlstm.nn.recurrence import LSTMParams, lstm, lstm_step

__all__ = [
    "CNN",
    "CNNLSTM",
    "LSTM",
    "MLP",
    "Bidirectional",
    "Conv1D",
    "Dropout",
    "LSTMCell",
    "LSTMClassifierNetwork",
    "LSTMParams",
    "RowColumnBiLSTM",
    "StackedLSTM",
    "from_keras",
    "from_torch",
    "lstm",
    "lstm_step",
    "to_keras",
    "to_torch",
]
