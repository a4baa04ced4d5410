import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterAll } from 'vitest';

/** transformers and PEFT, where Python has them, as the judges of what is written and the source of what is read. */
const python = process.env.PYTHON ?? 'python3';
const look =
  'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, ["transformers", "peft", "torch"])))';
export const hasTransformers = spawnSync(python, ['-c', look]).status === 0;

/** Runs the scripts that come on stdin, each in a fresh namespace, and answers with the last line that one prints. */
const program = `
import contextlib, io, json, sys, traceback, warnings, torch, transformers, peft
warnings.filterwarnings("ignore")
# For models as small as those here more threads only wait for each other, the longer the busier the machine.
torch.set_num_threads(1)
for line in sys.stdin:
    request = json.loads(line)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(request["script"], {"a": request["args"]})
        answer = {"printed": printed.getvalue().strip().split("\\n")[-1]}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
`;

const prelude = `
import json, torch, warnings
from transformers import AutoConfig, AutoModelForCausalLM
from peft import LoraConfig, PeftModel, get_peft_model
def logps(model):
    out = []
    for prompt, response in a["texts"]:
        ids = torch.tensor([prompt + response])
        with torch.no_grad():
            logits = model(ids, logits_to_keep=len(response) + 1).logits[0, :-1].double().log_softmax(-1)
        out.append(logits.gather(1, ids[0, len(prompt) :, None]).sum().item())
    return out
def gradients(peft):
    total = 0
    for (prompt, response), cotangent in zip(a["texts"], a["cotangents"]):
        ids = torch.tensor([prompt + response])
        logits = peft(ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        total = total + cotangent * logits.gather(1, ids[0, len(prompt) :, None]).sum()
    total.backward()
    return {
        name.replace("base_model.model.", "").replace(".default", ""): parameter.grad.flatten().tolist()
        for name, parameter in peft.named_parameters()
        if parameter.grad is not None
    }
def shake(model, deviation, only=""):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if only in name:
                parameter.normal_(0, deviation)
`;

/** Importing the packages takes most of the time, so one process serves all tests of a file. */
let running: { child: ChildProcessWithoutNullStreams; answers: AsyncIterator<string>; stderr: string } | undefined;

function start() {
  const child = spawn(python, ['-c', program]);
  const state = { child, answers: createInterface({ input: child.stdout })[Symbol.asyncIterator](), stderr: '' };
  child.stderr.setEncoding('utf8').on('data', (text) => {
    state.stderr += text;
  });
  return state;
}

afterAll(() => {
  running?.child.stdin.end();
});

/**
 * Runs Python with `args` as the dictionary `a`, and what every script needs; `logps(model)` is log π(response | prompt) of the pairs of
 * ids in `args.texts`, `gradients(peft)` those of Σ cotangent · log π by `args.cotangents`, and `shake(model, deviation, only)` makes
 * parameters random. @returns what it prints last, parsed as JSON
 */
export async function askTransformers<T>(script: string, args: object): Promise<T> {
  running ??= start();
  running.child.stdin.write(`${JSON.stringify({ script: prelude + script, args })}\n`);
  const { value, done } = await running.answers.next();
  if (done) throw new Error(`Python ended: ${running.stderr}`);
  const { printed, error } = JSON.parse(value) as { printed: string; error?: string };
  if (error !== undefined) throw new Error(error);
  return JSON.parse(printed) as T;
}

/** Odd sizes of a small model, as config.json of every generation names them. */
export const sizes = {
  vocab_size: 101,
  hidden_size: 24,
  intermediate_size: 40,
  num_hidden_layers: 5,
  num_attention_heads: 6,
  num_key_value_heads: 3,
  head_dim: 10,
};
export const gemma3 = { ...sizes, model_type: 'gemma3_text', query_pre_attn_scalar: 7, sliding_window: 9 };
