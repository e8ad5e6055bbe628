"""Plain fine-tuning with TRL: `python trl_sft.py MODEL ROWS.jsonl OUT`. Rows have `prompt` and `response`."""

import sys

import torch
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer


def chat(row):
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["response"]}],
    }


model, rows, out = sys.argv[1:]
dataset = load_dataset("json", data_files=rows, split="train").map(chat, remove_columns="response")
args = SFTConfig(output_dir=out, learning_rate=2e-4, logging_steps=10, bf16=torch.cuda.is_available())
lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
trainer = SFTTrainer(model, args, train_dataset=dataset, peft_config=lora)
trainer.train()
trainer.save_model()
