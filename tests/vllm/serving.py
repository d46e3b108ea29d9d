"""A real vLLM process on loopback, of an installation that is named: nothing is installed or fetched.

The model that it chats with has the shape of a Llama and weights of chance: what it says has no sense, and is the same each
time at temperature 0.
"""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING
from urllib.request import urlopen

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from infra.local import ports
from infra.local.model_server.files import model_directory
from infra.local.ports import HOST
from infra.local.process import ChildProcess
from infra.local.readiness import wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-vllm-test"
MAX_MODEL_LEN = 4096
TIERS = ("vllm-light", "vllm-standard", "vllm-heavy")
EMBEDDER = "vllm-minilm"
_READY_TIMEOUT_SECONDS = 600.0
_SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float32",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
_BEGIN, _END = "<s>", "</s>"
_VOCABULARY = 2000
_CORPUS = Path(__file__).resolve().parents[2] / "docs"
_CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
_VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # Of a build for processors; one for GPUs reads neither.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


def write_model(folder: Path) -> Path:
    """Write what describes the model, with a tokenizer made of our own documents (byte-level BPE); return its folder."""
    folder.mkdir()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[_BEGIN, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(path) for path in sorted(_CORPUS.glob("*.md"))], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    begin, end = tokenizer.token_to_id(_BEGIN), tokenizer.token_to_id(_END)
    shape = {**_SHAPE, "vocab_size": tokenizer.get_vocab_size(), "bos_token_id": begin, "eos_token_id": end}
    (folder / "config.json").write_text(json.dumps(shape))
    tokens = {"bos_token": _BEGIN, "eos_token": _END, "chat_template": _CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **tokens}))
    return folder


class Vllm:
    """A process that serves one model under some names, its log in `folder`."""

    def __init__(self, program: str, folder: Path, models: tuple[str, ...], source: Path, *options: str) -> None:
        name = models[0]
        port = ports.free([name])[name]
        self.models = models
        self.url = f"http://{HOST}:{port}"
        common = ("--served-model-name", *models, "--host", HOST, "--port", str(port), "--api-key", KEY)
        self._process = ChildProcess(
            name,
            (program, "serve", str(source), *common, "--enforce-eager", "--dtype", "float32", *options),
            env={**os.environ, **_VARIABLES},
            cwd=folder,
            log_path=folder / f"{name}.log",
        )

    def start(self) -> None:
        """Begin to load the model, which takes a minute."""
        self._process.start()

    def ready(self) -> None:
        """Return when it answers."""
        wait_until_ready(self._process, f"{self.url}/health", timeout=_READY_TIMEOUT_SECONDS, abort=Event())

    def stop(self) -> None:
        """End it, whether it is ready or not."""
        self._process.stop()

    def kill(self) -> None:
        """End all its processes without a chance to say goodbye."""
        assert self._process.pid is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()

    def metric(self, name: str) -> float:
        """Return what vLLM counts under a name, over all its labels (the text format of Prometheus)."""
        with urlopen(f"{self.url}/metrics", timeout=30) as response:  # noqa: S310 - a loopback address
            text = response.read().decode()
        found = re.findall(rf"^vllm:{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        assert found, f"vLLM has no metric {name}"
        return sum(map(float, found))


def both(program: str, folder: Path) -> Iterator[tuple[Vllm, Vllm]]:
    """Yield one that chats, with the options of the cluster's, and one that embeds."""
    shape = ("--load-format", "dummy", "--max-model-len", str(MAX_MODEL_LEN))
    tools = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    chat = Vllm(program, folder, TIERS, write_model(folder / "chance"), *shape, *tools)
    embedder = Vllm(program, folder, (EMBEDDER,), model_directory(), "--runner", "pooling")
    try:
        # At once: each takes a minute.
        chat.start()
        embedder.start()
        chat.ready()
        embedder.ready()
        yield chat, embedder
    finally:
        embedder.stop()
        chat.stop()
