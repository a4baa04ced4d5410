"""Trains tiny-tokenizer.json, the byte-level BPE of the `random:` models. Needed only to make it anew:

    npx group-robust data survey --seed 0 --rows 1200 --out survey
    pip install tokenizers==0.23.2
    python src/data/text/tiny-tokenizer.py survey/*.jsonl

Byte-level, so any text survives the round trip; "\n" + letter + "." is one piece, which keeps option lists short.
"""

import json
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PIECES = r"\n[A-Z]\.| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s"

# Everyday survey English beside the prompts, so that other questions are not spelt letter by letter.
GENERAL = """\
In general, how satisfied are you with the way things are going in your country today?
Please tell me whether you have a very favorable, somewhat favorable, somewhat unfavorable or very unfavorable opinion.
Do you think that the economic situation will get better, get worse or remain the same over the next twelve months?
How much confidence do you have in the government, the courts, the press and large companies: a great deal, quite a lot, \
not very much or none at all?
Which of these comes closest to your own view, even if neither is exactly right? Do not know. Refused. No answer. Other.
Some people believe that children should obey their parents; others say that independence matters more.
Thinking about your own life, how often do you worry about money, work, health, crime, the environment or the future?
Is religion an important part of your daily life? Have you ever taken part in a demonstration or signed a petition?
"""

prompts = [json.loads(line)["prompt"] for path in sys.argv[1:] for line in Path(path).read_text().splitlines()]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(PIECES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=1024,
    special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
)
tokenizer.train_from_iterator(prompts + GENERAL.splitlines() * 20, trainer)
tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
tokenizer.save(str(Path(__file__).with_suffix(".json")), pretty=False)
lengths = sorted(len(tokenizer.encode(prompt).ids) for prompt in prompts)
print(f"{tokenizer.get_vocab_size()} tokens; prompts of {lengths[0]} to {lengths[-1]} tokens")
