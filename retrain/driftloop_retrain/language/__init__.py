"""Fine-tuning language models: from the answers in the lake, and what people said of them, to a
LoRA adapter that the gate let through. torch, transformers, peft and trl are imported where they
are used."""
