"""Hugging Face text classifiers: a `pipeline("text-classification", …)`, or a model and its
tokenizer as a tuple. The tokenizer travels in the graph's file (driftloop_onnx.tokenizer_step)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.kind import Task
from driftloop_contracts.signature import TensorSpec
from driftloop_export.boosted import answers_of
from driftloop_export.classes import classes_from
from driftloop_export.port import Body, NotExportable, Outputs
from driftloop_export.sample import Sample
from driftloop_export.torch_trace import (
    BEST,
    PROBABILITIES,
    labelled,
    probabilities_of_logits,
    traced,
)
from driftloop_onnx.tokenizer_step import KEY, RUN_ROWS, declaration

_ATTRIBUTES = {
    "input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids",
}  # fmt: skip
USUAL_TOKENS = 512
UNLIMITED = 1_000_000
"""A tokenizer that knows no limit says a number above this."""
OFFSET_FAMILIES = ("roberta", "camembert", "xmod", "longformer")
"""Their positions begin after the padding's number."""


class TextClassifier:
    """See Adapter."""

    def columns(self, _model: Any) -> Sequence[str] | None:
        return None

    def answers(self, model: Any, sample: Sample, _task: Task | None) -> Outputs:
        import torch

        network, tokenizer = _checked(model, sample)
        rows = _rows(sample)
        ready, logits = _ready(network, tokenizer), []
        with torch.no_grad():
            for start in range(0, len(rows), RUN_ROWS):
                tokens = _tokens(ready, rows[start : start + RUN_ROWS], _names(network, tokenizer))
                logits.append(network.eval()(**tokens).logits.float().cpu())
        found = torch.cat(logits)
        if found.shape[1] == 1:
            return answers_of(found.numpy(), None)
        return answers_of(probabilities_of_logits(found).numpy(), _classes(network))

    def bodies(self, model: Any, sample: Sample, answers: Outputs) -> Iterator[Body]:
        import torch

        network, tokenizer = _checked(model, sample)
        ready, names = _ready(network, tokenizer), _names(network, tokenizer)
        classifies = "label" in answers

        class Answering(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = network

            def forward(self, *tensors: Any) -> Any:
                logits = self.model(**dict(zip(names, tensors, strict=True))).logits
                if not classifies:
                    return logits.reshape(-1)
                probabilities = probabilities_of_logits(logits)
                return probabilities.argmax(dim=1), probabilities

        tokens = _tokens(ready, _rows(sample)[:2], names)
        outputs = [BEST, PROBABILITIES] if classifies else ["our_value"]
        graph = traced(Answering(), tokens, outputs, (0, 1))
        body = labelled(graph, _classes(network)) if classifies else None
        yield Body(
            graph,
            body.outputs if body else {"value": "our_value"},
            inputs=tuple(TensorSpec(name, "INT64", (-1, -1)) for name in names),
            metadata={KEY: declaration(sample.columns, {n: _ATTRIBUTES[n] for n in names}, ready)},
        )


def _checked(model: Any, sample: Sample) -> tuple[Any, Any]:
    parts = (
        model
        if isinstance(model, tuple)
        else (getattr(model, "model", None), getattr(model, "tokenizer", None))
    )
    if len(parts) != 2 or not hasattr(parts[0], "config") or parts[1] is None:
        raise NotExportable(
            "a Hugging Face model is exported with its tokenizer: give the pipeline, or "
            "(model, tokenizer)"
        )
    network, tokenizer = parts
    if not type(network).__name__.endswith("ForSequenceClassification"):
        raise NotExportable(
            f"a {type(network).__name__} does not classify texts; language models are deployed "
            "as a folder of weights: `driftloop deploy FOLDER --name NAME`"
        )
    if getattr(network.config, "problem_type", None) == "multi_label_classification":
        raise NotExportable("the model gives several labels a row: export one model for each")
    if not getattr(tokenizer, "is_fast", False):
        raise NotExportable(
            f"the {type(tokenizer).__name__} is written in Python: load its fast form, "
            "AutoTokenizer.from_pretrained(…, use_fast=True)"
        )
    if tokenizer.pad_token is None:
        raise NotExportable("the tokenizer has no pad_token: set one, as for batches in training")
    kinds = [tensor.datatype for tensor in sample.inputs]
    if kinds not in (["BYTES"], ["BYTES", "BYTES"]):
        raise NotExportable(
            f"a text classifier takes one column of texts, or two as a pair, and the sample has "
            f"{', '.join(sample.columns)}"
        )
    return network, tokenizer


def _ready(network: Any, tokenizer: Any) -> Any:
    """The tokenizer itself, with truncation and padding."""
    from tokenizers import Tokenizer

    ready = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    config, limits = network.config, [USUAL_TOKENS]
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        after_padding = any(name in config.model_type for name in OFFSET_FAMILIES)
        limits = [positions - (tokenizer.pad_token_id + 1 if after_padding else 0)]
    if tokenizer.model_max_length < UNLIMITED:
        limits.append(tokenizer.model_max_length)
    ready.enable_truncation(min(limits), direction=tokenizer.truncation_side)
    ready.enable_padding(
        direction=tokenizer.padding_side,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=tokenizer.pad_token,
    )
    return ready


def _names(network: Any, tokenizer: Any) -> list[str]:
    """The inputs of the graph: what the tokenizer gives and the model takes."""
    import inspect

    taken = inspect.signature(network.forward).parameters
    return [n for n in _ATTRIBUTES if n in tokenizer.model_input_names and n in taken]


def _rows(sample: Sample) -> list[Any]:
    texts = [values.reshape(-1).tolist() for values in sample.feeds().values()]
    return texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))


def _tokens(ready: Any, rows: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    import torch

    found = ready.encode_batch(rows)
    return {
        name: torch.tensor([getattr(one, _ATTRIBUTES[name]) for one in found]) for name in names
    }


def _classes(network: Any) -> NDArray[np.generic]:
    names = network.config.id2label
    return classes_from([names[number] for number in sorted(names)])
