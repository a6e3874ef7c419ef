"""Packs several examples of a batch into one row without attention between them.

Given positions that restart at 0 and no attention mask, transformers restricts attention to a
token's own sequence (`masking_utils.find_packed_sequence_indices`), even without flash attention.
Rows are as wide as the batch's longest example: wider ones would only make attention slower, which
grows with the square. A batch has the same examples as an unpacked one, so training steps are
unchanged.

trl's own packing (`packing=True`) packs the whole set beforehand: it would shuffle the order of
`batch_order`, and the number of examples per step would vary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

IGNORED = -100
"""The label of a token without a loss."""
PROBE_TOKENS = 12


def pack(lengths: Sequence[int]) -> list[list[int]]:
    """Return which examples share a row, by number; no row is wider than the longest example. First
    fit, longest first."""
    width, rows, room = max(lengths, default=0), list[list[int]](), list[int]()
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        needed = lengths[number]
        row = next((row for row, free in enumerate(room) if free >= needed), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(number)
        room[row] -= needed
    return rows


def packed_batch(examples: Sequence[Mapping[str, Sequence[int]]], pad: int) -> dict[str, Any]:
    """Return input_ids, labels and position_ids, each int64 [rows, width], of examples with
    `input_ids` and `labels`."""
    import torch

    ids, labels, positions = list[list[int]](), list[list[int]](), list[list[int]]()
    lengths = [len(example["input_ids"]) for example in examples]
    for row in pack(lengths):
        missing = max(lengths) - sum(lengths[number] for number in row)
        members = [examples[number] for number in row]
        ids.append([token for one in members for token in one["input_ids"]] + [pad] * missing)
        # Without the first label of each example: it would be the prediction of the previous
        # example.
        labels.append([label for one in members for label in (IGNORED, *one["labels"][1:])])
        labels[-1] += [IGNORED] * missing
        # Padding with position 0 makes each padding token a separate sequence.
        positions.append([at for number in row for at in range(lengths[number])] + [0] * missing)
    return {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor(labels),
        "position_ids": torch.tensor(positions),
    }


def packs_exactly(model: Any) -> bool:
    """Whether the second of two packed examples has the same logits as alone, and keeps them if the
    first one changes. An architecture with a state, or with its own masking, may not."""
    import torch

    count = model.get_input_embeddings().num_embeddings
    first, other, second = (
        torch.arange(start, start + PROBE_TOKENS, device=model.device) % count
        for start in (0, PROBE_TOKENS, 2 * PROBE_TOKENS)
    )
    positions = torch.arange(PROBE_TOKENS, device=model.device)

    def logits(*parts: Any) -> Any:
        given = {"input_ids": parts, "position_ids": [positions] * len(parts)}
        inputs = {name: torch.cat(list(ids))[None] for name, ids in given.items()}
        return model(**inputs, use_cache=False).logits[0, -PROBE_TOKENS:].float()

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone, packed, beside = logits(second), logits(first, second), logits(other, second)
    finally:
        model.train(training)
    # With equal shapes, masked tokens have no influence at all; with different shapes, rounding
    # differs.
    near = (0.1 if next(model.parameters()).dtype.itemsize < 4 else 1e-3) * alone.std()
    return bool(torch.equal(packed, beside) and (packed - alone).abs().max() < near)
