"""A language model of a few megabytes, and adapters for it, made on the spot in seconds.

The weights are random, so its answers are noise; everything around them (tokenizer, chat template,
file layout) is what a real model's folder holds. Run as a program it writes one for trying by hand:
`python tests/tiny_llama.py FOLDER`.
"""

import sys
from itertools import islice
from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT = 512
"""Positions of the model, in tokens."""

MARKS = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]


def tiny_llama(folder: Path, seed: int = 0) -> Path:
    """Writes a Hugging Face folder (config.json, model.safetensors, tokenizer) and returns it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
        dtype="float32",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_adapter(folder: Path, base: Path, seed: int = 0, rank: int = 4) -> Path:
    """Writes a LoRA adapter for the model in `base` whose weights change its answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    adapter = get_peft_model(
        model,
        LoraConfig(
            r=rank,
            lora_alpha=4 * rank,
            target_modules=["q_proj", "v_proj", "up_proj"],
            task_type="CAUSAL_LM",
        ),
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, weights in adapter.named_parameters():
            if "lora_B" in name:  # zero at first: an adapter that changes nothing
                weights.normal_(std=0.5)
    adapter.save_pretrained(folder)
    return folder


def _tokenizer():
    """A byte-level tokenizer trained on the standard library's text (the same on each run)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    library = Path(sys.modules["pathlib"].__file__).parent
    while not (library / "argparse.py").exists():
        library = library.parent
    text = (path.read_text(errors="ignore") for path in islice(sorted(library.glob("*.py")), 40))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=2048,
            special_tokens=MARKS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
    )


if __name__ == "__main__":
    base = tiny_llama(Path(sys.argv[1]) / "base")
    tiny_adapter(Path(sys.argv[1]) / "adapter", base)
