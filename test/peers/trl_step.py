"""A preference-training step of TRL's DPOTrainer, beside `group-robust bench train-step`: IPO, LoRA of rank 8 on all projections, random weights of
Gemma-2B's shape. Prints one line of JSON: the median step after one that is not timed, and the peak memory.

    python test/peers/trl_step.py --batch 4 [--device cpu] [--layers 6 --vocab 64000] [--precompute] [--attention flash_attention_2]

On a GPU base weights and activations are bfloat16. --attention flash_attention_2 also lays sequences end to end, without padding. Scores of the reference
are computed in the step, as TRL does by default, or before it with --precompute.
"""

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import time

os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="disabled")

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from peft import LoraConfig  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import GemmaConfig, GemmaForCausalLM, PreTrainedTokenizerFast, TrainerCallback  # noqa: E402
from trl import DPOConfig, DPOTrainer  # noqa: E402

parser = argparse.ArgumentParser()
for name, value in {"layers": 18, "vocab": 256000, "batch": 4, "prompt": 86, "response": 1, "steps": 3}.items():
    parser.add_argument(f"--{name}", type=int, default=value)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--attention", default="sdpa")
parser.add_argument("--precompute", action="store_true")
options = parser.parse_args()
on_card = options.device == "cuda"
random.seed(0)
torch.manual_seed(0)

config = GemmaConfig(
    hidden_size=2048,
    intermediate_size=16384,
    num_attention_heads=8,
    num_key_value_heads=1,
    head_dim=256,
    vocab_size=options.vocab,
    num_hidden_layers=options.layers,
    attn_implementation=options.attention,
)
torch.nn.init.normal_ = lambda tensor, *_, **__: tensor  # filled below, in a tenth of the time
with torch.device(options.device):
    model = GemmaForCausalLM(config).to(torch.bfloat16 if on_card else torch.float32)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.uniform_(-0.03, 0.03)

words = [f"w{i}" for i in range(min(5000, options.vocab - 4))]
special = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3}
table = Tokenizer(models.WordLevel({**special, **{word: i + 4 for i, word in enumerate(words)}}, unk_token="<unk>"))
table.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=table, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
)


def text(count):
    return " ".join(random.choices(words, k=count))


rows = [
    {"prompt": text(options.prompt), "chosen": " " + text(options.response), "rejected": " " + text(options.response)}
    for _ in range(options.batch * (options.steps + 1))
]


class Timer(TrainerCallback):
    seconds = []

    def on_step_begin(self, *_, **__):
        if on_card:
            torch.cuda.synchronize()
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        if on_card:
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.start)


projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
with tempfile.TemporaryDirectory() as folder:
    DPOTrainer(
        model=model,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[Timer()],
        args=DPOConfig(
            output_dir=folder,
            per_device_train_batch_size=options.batch,
            max_steps=options.steps + 1,
            loss_type=["ipo"],
            beta=0.01,
            report_to=[],
            use_cpu=not on_card,
            bf16=on_card,
            gradient_checkpointing=False,
            padding_free=options.attention == "flash_attention_2",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            precompute_ref_log_probs=options.precompute,
            dataloader_pin_memory=False,
        ),
        peft_config=LoraConfig(r=8, lora_alpha=32, task_type="CAUSAL_LM", target_modules=projections),
    ).train()
median = statistics.median(Timer.seconds[1:])
peak = torch.cuda.max_memory_allocated() if on_card else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
result = {"seconds_per_step": median, "pairs_per_second": options.batch / median, "peak_memory_bytes": peak}
print(json.dumps({"program": "TRL", "attention": options.attention, **result}))
