"""Fine-tuning of language models: from the answers in the lake, and the feedback on them, to a LoRA
adapter that passed the gate. torch, transformers, peft and trl are imported where they are used."""
