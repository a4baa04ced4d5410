"""What is left in bfloat16 of what an adapter does, by PEFT: the mean change of the log-probability of the chosen responses of a file of pairs, in
float32 and in bfloat16, with the adapter itself in float32, as trainers have it. Prints one line of JSON.

    python test/peers/small_adapter.py --model runs/gemma-3-270m --adapter runs/one-step/adapter --pairs pairs.jsonl
"""

import argparse
import json
import os

os.environ.update(HF_HUB_OFFLINE="1")

import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: E402

parser = argparse.ArgumentParser()
for name in ("model", "adapter", "pairs"):
    parser.add_argument(f"--{name}", required=True)
options = parser.parse_args()
tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{options.model}/tokenizer.json")
with open(options.pairs, encoding="utf8") as file:
    pairs = [json.loads(line) for line in file]
bos, eos = 2, 1


@torch.no_grad()
def log_probabilities(model):
    scores = []
    for pair in pairs:
        prompt, response = (tokenizer(pair[key], add_special_tokens=False).input_ids for key in ("prompt", "chosen"))
        response.append(eos)
        tokens = torch.tensor([[bos, *prompt, *response]])
        # The head over the whole prompt would take most of the time.
        logits = model(tokens, logits_to_keep=len(response) + 1).logits[0, :-1].float()
        scores.append(logits.log_softmax(-1).gather(1, tokens[0, len(prompt) + 1 :, None]).sum().item())
    return torch.tensor(scores)


gains = {}
for dtype in (torch.float32, torch.bfloat16):
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).eval()
    before = log_probabilities(model)
    after = log_probabilities(PeftModel.from_pretrained(model, options.adapter).eval())
    gains[str(dtype).removeprefix("torch.")] = (after - before).mean().item()
print(json.dumps({**gains, "kept": gains["bfloat16"] / gains["float32"]}))
