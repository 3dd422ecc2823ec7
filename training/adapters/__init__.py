"""Adapters in a fine-tuning: LoRA and IA3 through PEFT."""
