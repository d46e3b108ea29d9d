"""The forward pass of a BERT encoder in float32 NumPy.

Architecture: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding" (NAACL 2019): layer norm after each sub-layer, GELU, learned positions.

Sequences are never padded. Every dense layer runs over the concatenated tokens of all sequences, and
attention, the only step in which tokens of one sequence meet, runs once for each run of sequences of
equal length.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

_F32 = np.float32
Array = NDArray[np.float32]
# Gives a checkpoint's tensor by its name in the file.
Tensors = Callable[[str], Array]

# Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), formula 7.1.26:
# erfc(z) = (a1 t + a2 t^2 + a3 t^3 + a4 t^4 + a5 t^5) exp(-z^2) with t = 1 / (1 + p z), for z >= 0,
# to within 1.5e-7.
_ERFC_P = 0.3275911
_ERFC_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)

# Elements handled at a time: the four buffers of a block stay within a core's L2 cache.
_GELU_BLOCK = 32768


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes that a checkpoint's ``config.json`` declares."""

    layers: int
    hidden: int
    heads: int
    layer_norm_epsilon: float


@dataclass(frozen=True, slots=True)
class _Dense:
    """An affine map; ``weight`` is [in, out] and contiguous, so that BLAS need not transpose."""

    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        y: Array = x @ self.weight
        y += self.bias
        return y


@dataclass(frozen=True, slots=True)
class _LayerNorm:
    gain: Array
    bias: Array
    epsilon: float

    def apply(self, x: Array) -> Array:
        """Normalise the rows of ``x`` in place."""
        x -= x.mean(axis=1, keepdims=True)
        variance = np.vecdot(x, x)[:, None] / x.shape[1]
        x /= np.sqrt(variance + _F32(self.epsilon))
        x *= self.gain
        x += self.bias
        return x


@dataclass(frozen=True, slots=True)
class _Layer:
    query_key_value: _Dense
    attention_output: _Dense
    attention_norm: _LayerNorm
    intermediate: _Dense
    output: _Dense
    output_norm: _LayerNorm


def gelu(x: Array) -> Array:
    """Apply the exact GELU, x * Phi(x), in place to a contiguous float32 array, to within 1e-6.

    Phi is expressed by erfc of the magnitude, which needs no sign:
    gelu(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2.
    """
    flat = x.reshape(-1)
    size = min(_GELU_BLOCK, flat.size)
    magnitude, t, tail = (np.empty(size, _F32) for _ in range(3))
    coefficients = [_F32(a / 2) for a in _ERFC_A]
    for start in range(0, flat.size, _GELU_BLOCK):
        value = flat[start : start + _GELU_BLOCK]
        a, b, c = magnitude[: value.size], t[: value.size], tail[: value.size]
        np.abs(value, out=a)
        np.multiply(a, _F32(_ERFC_P / math.sqrt(2)), out=b)
        b += _F32(1)
        np.reciprocal(b, out=b)
        np.multiply(b, coefficients[-1], out=c)
        for coefficient in reversed(coefficients[:-1]):
            c += coefficient
            c *= b
        np.multiply(value, value, out=b)
        b *= _F32(-0.5)
        np.exp(b, out=b)
        c *= b
        c *= a
        np.maximum(value, _F32(0), out=value)
        value -= c
    return x


def _softmax(scores: Array) -> Array:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _runs(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (first token, sequences, tokens each) for each run of equal lengths."""
    start = 0
    for length, run in groupby(lengths):
        count = sum(1 for _ in run)
        yield start, count, length
        start += count * length


class Bert:
    """A BERT encoder whose weights are held in memory; it may be called from several threads at once."""

    def __init__(self, tensors: Tensors, shape: BertShape) -> None:
        """Take the tensors of a Hugging Face ``BertModel`` checkpoint, each once."""
        self._shape = shape
        self._words = tensors("embeddings.word_embeddings.weight")
        # Only one segment is ever used, so that its embedding is added to the positions once, here.
        segment = tensors("embeddings.token_type_embeddings.weight")[0]
        self._positions = tensors("embeddings.position_embeddings.weight") + segment
        self._norm = self._layer_norm(tensors, "embeddings.LayerNorm")
        self._layers = [self._layer(tensors, f"encoder.layer.{n}.") for n in range(shape.layers)]

    def __call__(self, sequences: Sequence[Sequence[int]]) -> list[Array]:
        """Return the last hidden state, [tokens, hidden], of each sequence of token ids.

        Cheapest when sequences of equal length stand side by side.
        """
        lengths = [len(ids) for ids in sequences]
        x: Array = self._words[np.concatenate([np.asarray(ids, np.int64) for ids in sequences])]
        for start, count, length in _runs(lengths):
            x[start : start + count * length].reshape(count, length, -1)[...] += self._positions[:length]
        self._norm.apply(x)
        for layer in self._layers:
            attended = layer.attention_output(self._attend(layer.query_key_value(x), lengths))
            attended += x
            x = layer.attention_norm.apply(attended)
            fed = layer.output(gelu(layer.intermediate(x)))
            fed += x
            x = layer.output_norm.apply(fed)
        return np.split(x, np.cumsum(lengths)[:-1])

    def _attend(self, projected: Array, lengths: Sequence[int]) -> Array:
        """Return [tokens, hidden] of the multi-head attention of ``projected``, [tokens, 3 * hidden]."""
        hidden, heads = self._shape.hidden, self._shape.heads
        out = np.empty((len(projected), hidden), _F32)
        for start, count, length in _runs(lengths):
            stop = start + count * length
            split = projected[start:stop].reshape(count, length, 3, heads, hidden // heads)
            query, key, value = split.transpose(2, 0, 3, 1, 4)
            mixed = _softmax(query @ key.swapaxes(-1, -2)) @ value
            out[start:stop].reshape(count, length, heads, -1)[...] = mixed.transpose(0, 2, 1, 3)
        return out

    def _layer(self, tensors: Tensors, prefix: str) -> _Layer:
        scale = _F32(1 / math.sqrt(self._shape.hidden // self._shape.heads))
        query, key, value = (
            self._dense(tensors, f"{prefix}attention.self.{name}") for name in ("query", "key", "value")
        )
        return _Layer(
            query_key_value=_Dense(
                np.hstack([query.weight * scale, key.weight, value.weight]),
                np.hstack([query.bias * scale, key.bias, value.bias]),
            ),
            attention_output=self._dense(tensors, f"{prefix}attention.output.dense"),
            attention_norm=self._layer_norm(tensors, f"{prefix}attention.output.LayerNorm"),
            intermediate=self._dense(tensors, f"{prefix}intermediate.dense"),
            output=self._dense(tensors, f"{prefix}output.dense"),
            output_norm=self._layer_norm(tensors, f"{prefix}output.LayerNorm"),
        )

    @staticmethod
    def _dense(tensors: Tensors, name: str) -> _Dense:
        return _Dense(np.ascontiguousarray(tensors(f"{name}.weight").T), tensors(f"{name}.bias"))

    def _layer_norm(self, tensors: Tensors, name: str) -> _LayerNorm:
        return _LayerNorm(tensors(f"{name}.weight"), tensors(f"{name}.bias"), self._shape.layer_norm_epsilon)
