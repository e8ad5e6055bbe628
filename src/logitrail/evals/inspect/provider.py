"""A local model, adapters included, as an inspect_ai provider: `logitrail/PATH`, with batched generation."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

if TYPE_CHECKING:
    from logitrail.models.generation import Answer
    from logitrail.models.loading import LoadedModel

MAX_TOKENS = 256
"""Of an answer for which nobody says how long it may be."""

_PAUSE_S = 0.02  # how long a batch that is not full waits for one more request


@dataclass(frozen=True)
class _Request:
    messages: list[dict[str, str]]
    prefill: str
    max_tokens: int
    temperature: float
    seed: int
    answer: Future[tuple[Answer, float]]

    @property
    def kind(self) -> tuple[str, int, float, int]:
        """What a batch must have in common."""
        return self.prefill, self.max_tokens, self.temperature, self.seed


@modelapi(name="logitrail")
class LocalModel(ModelAPI):
    """Weights on this machine behind inspect's model interface.

    `logitrail/PATH` is a folder or a Hub name; a folder with a PEFT adapter is put on its base model, which `-M base=PATH`
    names where the adapter's own note of it is not right. Requests that are alike wait a moment for one another and are
    generated together, `-M batch_size=32` at most. Greedy unless a temperature is asked for. A trailing assistant
    message is the beginning of the answer (a prefill). No tools.

    Which requests share a batch depends on timing, and padding on the batch; so the last bits of logits may differ
    between two runs, as they do with any server. `logitrail run` fixes its batches and does not have that.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (inspect's own signature)
        batch_size: int = 32,
        base: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        loaded: LoadedModel | None = None,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.batch_size = int(batch_size)
        self._loaded = loaded or _load(model_name, base, dtype, device, revision, trust_remote_code)
        self._waiting: queue.Queue[_Request | None] = queue.Queue()
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One answer; the request waits for its batch."""
        if tools:
            raise ValueError(
                "logitrail's local provider knows no tools; evaluate tool use through vLLM or another provider"
            )
        messages = [{"role": message.role, "content": message.text} for message in input]
        prefill = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else ""
        request = _Request(
            messages,
            prefill,
            MAX_TOKENS if config.max_tokens is None else config.max_tokens,
            config.temperature or 0.0,
            config.seed or 0,
            Future(),
        )
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, daemon=True)
                self._worker.start()
        self._waiting.put(request)
        answer, seconds = await asyncio.wrap_future(request.answer)
        return ModelOutput(
            model=self.model_name,
            choices=[
                ChatCompletionChoice(
                    message=ChatMessageAssistant(content=answer.text, model=self.model_name, source="generate"),
                    stop_reason="stop" if answer.finished else "max_tokens",
                )
            ],
            usage=ModelUsage(output_tokens=len(answer.ids), total_tokens=len(answer.ids)),
            time=seconds,
        )

    def max_connections(self) -> int:
        """As many requests under way as fit a batch."""
        return self.batch_size

    def max_tokens(self) -> int | None:
        """See `MAX_TOKENS`."""
        return MAX_TOKENS

    def close(self) -> None:
        """End the worker."""
        self._waiting.put(None)

    def _work(self) -> None:
        kept: list[_Request] = []
        while True:
            if not kept:
                first = self._waiting.get()
                if first is None:
                    return
                kept.append(first)
            while sum(one.kind == kept[0].kind for one in kept) < self.batch_size:
                try:
                    more = self._waiting.get(timeout=_PAUSE_S)
                except queue.Empty:
                    break
                if more is None:
                    return
                kept.append(more)
            batch = [one for one in kept if one.kind == kept[0].kind][: self.batch_size]
            kept = [one for one in kept if one not in batch]
            self._answer(batch)

    def _answer(self, batch: list[_Request]) -> None:
        from logitrail.models.generation import generate

        first = batch[0]
        start = time.perf_counter()
        try:
            answers = generate(
                self._loaded.model,
                self._loaded.tokenizer,
                [one.messages for one in batch],
                max_new_tokens=first.max_tokens,
                batch_size=len(batch),
                temperature=first.temperature,
                seed=first.seed,
                prefill=first.prefill,
            )
        except BaseException as error:
            for one in batch:
                one.answer.set_exception(error)
            return
        seconds = time.perf_counter() - start
        for one, answer in zip(batch, answers, strict=True):
            one.answer.set_result((answer, seconds))


def _load(
    path: str, base: str | None, dtype: str, device: str | None, revision: str | None, trust_remote_code: bool
) -> LoadedModel:
    from logitrail.errors import ModelError
    from logitrail.models.loading import load_model

    note = Path(path) / "adapter_config.json"
    adapter = None
    if note.exists():
        adapter = path
        # Whoever made the adapter chose the name in it: that is nobody's word that the code there may run.
        trust_remote_code = trust_remote_code and base is not None
        base = base or json.loads(note.read_text(encoding="utf-8")).get("base_model_name_or_path")
        if not base:
            raise ModelError(f"the adapter {path} does not say what it was trained on; name it with `-M base=PATH`")
    options: dict[str, Any] = {"revision": revision, "dtype": dtype, "device": device}
    return load_model(base or path, adapter=adapter, trust_remote_code=trust_remote_code, **options)
