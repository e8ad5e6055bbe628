"""The same with the refusals held: `python trl_str.py MODEL ROWS.jsonl OUT`. Rows have `prompt` and `response`."""

import sys

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoTokenizer

from logitrail import SafetyTokens, STRConfig, STRTrainer


def chat(row):
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["response"]}],
    }


model, rows, out = sys.argv[1:]
dataset = load_dataset("json", data_files=rows, split="train").map(chat, remove_columns="response")
args = STRConfig(output_dir=out, learning_rate=2e-4, logging_steps=10, bf16=torch.cuda.is_available())
lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
tokens = SafetyTokens.from_templates(AutoTokenizer.from_pretrained(model))
trainer = STRTrainer(model, args, train_dataset=dataset, peft_config=lora, safety_tokens=tokens)
trainer.train()
trainer.save_model()
