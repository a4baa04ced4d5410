import { spawnSync } from 'node:child_process';

/** transformers and PEFT, where Python has them, as the judges of what is written and the source of what is read. */
const python = process.env.PYTHON ?? 'python3';
export const hasTransformers = spawnSync(python, ['-c', 'import transformers, peft, torch']).status === 0;

/**
 * Runs Python with `args` as the dictionary `a`, and what every script needs; `logps(model)` is log π(response | prompt) of the pairs of
 * ids in `args.texts`. @returns what it prints last, parsed as JSON
 */
export function askTransformers<T>(script: string, args: object): T {
  const prelude = `
import json, sys, warnings, torch
from transformers import AutoConfig, AutoModelForCausalLM
from peft import LoraConfig, PeftModel, get_peft_model
warnings.filterwarnings("ignore")
a = json.load(sys.stdin)
def logps(model):
    out = []
    for prompt, response in a["texts"]:
        ids = torch.tensor([prompt + response])
        with torch.no_grad():
            logits = model(ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        out.append(logits.gather(1, ids[0, len(prompt) :, None]).sum().item())
    return out
`;
  const { stdout, stderr, status } = spawnSync(python, ['-c', prelude + script], {
    input: JSON.stringify(args),
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
}
